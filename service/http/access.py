"""Access: who may use the routes for back ends.

With keys configured: whoever bears one. With none: in development callers on this machine, in production nobody.
Knows the keys only through the core's WorkerAuthentication; never logs or repeats one.
"""

from collections.abc import Mapping
from ipaddress import IPv6Address, ip_address
from typing import Final

from portico.wire.codes import ErrorCode
from portico.wire.faults import PeerFault
from service.core.gateway import Gateway
from service.core.ports import HttpAnswer

from .answers import fault_answer
from .asking import Asking

_FORWARDED: Final = ("x-forwarded-for", "x-real-ip", "forwarded", "cf-connecting-ip", "true-client-ip")


class Access:
    """Decides who may."""

    def __init__(self, gateway: Gateway) -> None:
        self._gate = gateway.worker_authentication
        self._origins = gateway.origins
        self._production = gateway.rules.production
        self._has_keys = bool(gateway.rules.api_keys)

    def refuse(self, asking: Asking) -> HttpAnswer | None:
        """None if the caller may, else the answer that says why not."""
        if not self._origins.allows(asking.headers.get("origin"), asking.origin.host):
            return _forbidden("Pages of this origin may not use this gateway (PORTICO_ALLOWED_ORIGINS).")
        if self._has_keys:
            return self._refuse_without_key(asking.headers.get("authorization"))
        if self._production:
            return _forbidden("This route is closed until PORTICO_API_KEYS is set on the gateway.")
        if not _from_this_machine(asking):
            return _forbidden(
                "Without PORTICO_API_KEYS this route answers callers on the gateway's own machine only; set it there."
            )
        return None

    def _refuse_without_key(self, authorization: str | None) -> HttpAnswer | None:
        if self._gate.api_key(authorization):
            return None
        if authorization is None:
            fault = PeerFault(ErrorCode.UNAUTHORIZED, "Send an API key: Authorization: Bearer <key>.")
            return fault_answer(fault, headers=[("www-authenticate", 'Bearer realm="portico"')])
        fault = PeerFault(ErrorCode.UNAUTHORIZED, "This is not one of the API keys; send Authorization: Bearer <key>.")
        return fault_answer(fault, headers=[("www-authenticate", 'Bearer realm="portico", error="invalid_token"')])


def _forbidden(sentence: str) -> HttpAnswer:
    return fault_answer(PeerFault(ErrorCode.FORBIDDEN, sentence))


def _from_this_machine(asking: Asking) -> bool:
    return (
        _is_loopback(asking.peer)
        and _is_loopback(asking.origin.address)
        and not _passed_on_for_outsider(asking.headers)
    )


def _passed_on_for_outsider(headers: Mapping[str, str]) -> bool:
    # A proxy on this machine that nobody has declared as trusted looks like a local caller. If it says for
    # whom it asks, then believing that can only close the door, never open it.
    hops = (hop.strip() for name in _FORWARDED if name in headers for hop in headers[name].split(","))
    return not all(_is_loopback(hop) for hop in hops)


def _is_loopback(address: str) -> bool:
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(parsed, IPv6Address) and parsed.ipv4_mapped is not None:
        return parsed.ipv4_mapped.is_loopback
    return parsed.is_loopback
