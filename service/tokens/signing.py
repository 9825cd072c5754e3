"""Signing: makes tokens, and takes apart those of others without believing them. For the command line only.

What is made here is what a gateway checks: claims that TokenVerifier reads, signed with a shared secret or a private
key. What is taken apart is not checked: `read_unverified` says what a token claims, and what a person can see is wrong
with it whatever the key.

Source: RFC 7515 section 5.1, RFC 7519.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from service.core.proof import PATTERN_FIELDS, ROLES

from .keys import MIN_SECRET, PUBLIC_ALGORITHMS, SECRET_ALGORITHMS, BadKey
from .tokens import MAX_TOKEN

_OF_CURVE: Final = {"P-256": "ES256", "P-384": "ES384", "P-521": "ES512"}
_FORM: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")


class NotSigned(ValueError):
    """No token can be made so; the text is one sentence, without the key."""


class NotAToken(ValueError):
    """A text that is no token; the text is one sentence, without it."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a token says of itself, believed by nobody. `problems` is a sentence for each thing that is wrong."""

    header: dict[str, object]
    claims: dict[str, object]
    problems: list[str]


def private_key(text: bytes) -> Key:
    """The private key of a PEM block or a JWK. Raises BadKey."""
    given: bytes | dict[str, str | list[str]] = text
    if b"-----BEGIN" not in text:
        with suppress(msgspec.MsgspecError, RecursionError):
            given = msgspec.json.decode(text, type=dict[str, str | list[str]])
    for kind in (RSAKey, ECKey, OKPKey):
        try:
            key = kind.import_key(given)
        except (JoseError, ValueError, TypeError, KeyError):
            continue
        if not key.is_private:
            raise BadKey("It is a public key, and signing takes the private one.")
        return key
    raise BadKey("It is no private key: a PEM block without a password, or a JWK, of RSA, EC or Ed25519 is understood.")


def shared_secret(text: str) -> Key:
    """The key of a shared secret. Raises BadKey where a gateway would refuse it."""
    if len(text.encode()) < MIN_SECRET:
        raise BadKey(f"A shared secret for tokens needs at least {MIN_SECRET} bytes; portico token secret makes one.")
    return OctKey.import_key(text.encode())


def default_algorithm(key: Key) -> str:
    """What a key signs with unless somebody says otherwise."""
    if isinstance(key, OctKey):
        return "HS256"
    if isinstance(key, RSAKey):
        return "RS256"
    if isinstance(key, ECKey):
        return _OF_CURVE.get(key.curve_name, "ES256")
    return "EdDSA"


def sign(claims: dict[str, object], key: Key, algorithm: str | None = None, key_id: str | None = None) -> str:
    """A token with these claims. Raises NotSigned where the key and the algorithm don't go together."""
    algorithm = algorithm or default_algorithm(key)
    if (algorithm in SECRET_ALGORITHMS) != isinstance(key, OctKey) or (
        algorithm not in SECRET_ALGORITHMS and algorithm not in PUBLIC_ALGORITHMS
    ):
        raise NotSigned(f"{algorithm} is no algorithm for this kind of key.")
    header = {"alg": algorithm, "typ": "JWT"} | ({} if key_id is None else {"kid": key_id})
    signed = b".".join(_encoded(msgspec.json.encode(part)) for part in (header, claims))
    try:
        # Not through the library's registry, which warns at `EdDSA`, the only name that most programs know.
        signature = JWSRegistry.algorithms[algorithm].sign(signed, key)
    except (JoseError, ValueError, TypeError):
        raise NotSigned(f"{algorithm} is no algorithm for this kind of key.") from None
    token = b".".join((signed, _encoded(signature))).decode()
    if len(token) > MAX_TOKEN:
        raise NotSigned(f"The token would have {len(token)} characters, and a gateway takes {MAX_TOKEN} at most.")
    return token


def read_unverified(token: str, now: float) -> Read:
    """What a token says. `now` is Unix time. Raises NotAToken."""
    if not _FORM.fullmatch(token):
        raise NotAToken("This is no signed JWT: three parts of base64url with dots between.")
    first, second, third = token.split(".")
    header, claims = _object(first, "header"), _object(second, "claims")
    return Read(header, claims, [*_of_header(header, third), *_of_claims(claims, now), *_of_size(token)])


def _of_size(token: str) -> list[str]:
    return [f"It is longer than {MAX_TOKEN} characters, which no gateway takes."] if len(token) > MAX_TOKEN else []


def _of_header(header: dict[str, object], signature: str) -> list[str]:
    algorithm = header.get("alg")
    found = []
    if algorithm not in SECRET_ALGORITHMS and algorithm not in PUBLIC_ALGORITHMS:
        known = ", ".join((*SECRET_ALGORITHMS, *PUBLIC_ALGORITHMS))
        found.append(f"Its alg is none that is taken: {known}.")
    if not signature:
        found.append("It is not signed.")
    if "crit" in header or "b64" in header:
        found.append("Its header asks for an extension that is not known here (crit).")
    return found


def _of_claims(claims: dict[str, object], now: float) -> list[str]:
    read = ("sub", "exp", "nbf", "iat", "iss", "aud", "jti", "tenant", *PATTERN_FIELDS, "commands")
    found = [
        f"Its {name} is null: leave it out, or give it a value." for name in read if claims.get(name, name) is None
    ]
    times: dict[str, float] = {}
    for name in ("exp", "nbf", "iat"):
        value = claims.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            times[name] = value
        elif value is not None:
            found.append(f"Its {name} is no number of seconds since 1970.")
    if times.get("exp", now + 1) <= now:
        found.append(f"It has expired, {_ago(now - times['exp'])} ago.")
    if times.get("exp", 0.0) > 1e11:
        found.append("Its exp is in milliseconds, as it looks: it must be in seconds.")
    if times.get("nbf", now) > now:
        found.append(f"It is not valid yet, but in {_ago(times['nbf'] - now)}.")
    if times.get("iat", now) > now:
        found.append(f"It was issued in the future, in {_ago(times['iat'] - now)}: whose clock is wrong?")
    if "exp" not in times:
        found.append("It has no exp, so it never ends.")
    role = claims.get("role", "client")
    if role not in ROLES:
        found.append(f"Its role is none of {', '.join(ROLES)}.")
    if role == "client" and not isinstance(claims.get("sub"), str):
        found.append("It names no user: sub is missing, or no text.")
    return found


def _ago(seconds: float) -> str:
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _object(part: str, name: str) -> dict[str, object]:
    try:
        raw = urlsafe_b64decode(part + "=" * (-len(part) % 4))
        found: dict[str, object] = msgspec.json.decode(raw, type=dict[str, object])
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        raise NotAToken(f"Its {name} cannot be read: no JSON object in base64url.") from None
    return found


def _encoded(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
