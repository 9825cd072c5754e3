"""Which addresses outgoing requests go to, and that they go to the one that was judged."""

import socket
from ipaddress import ip_address, ip_network

import httpcore
import pytest
import trio

from service.outgoing.network import JudgedNetwork, NotAllowed, anywhere, public_and

PRIVATE = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "::127.0.0.1",
    "::10.0.0.1",
    "fec0::1",
    "64:ff9b:1::a00:1",
    "::ffff:0:127.0.0.1",
    "3fff::1",
    "5f00::1",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_not_public_is_refused(address: str) -> None:
    assert not public_and(())(ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_what_is_public_is_allowed(address: str) -> None:
    assert public_and(())(ip_address(address))


def test_networks_that_are_named_are_allowed() -> None:
    judge = public_and([ip_network("10.0.0.0/8"), ip_network("fc00::/7")])
    assert judge(ip_address("10.1.2.3"))
    assert judge(ip_address("::ffff:10.1.2.3"))
    assert judge(ip_address("fc00::1"))
    assert not judge(ip_address("192.168.1.1"))


@pytest.mark.parametrize("name", ["a" * 64 + ".example", "a..b", "localhost."])
async def test_a_name_that_is_none_is_a_failure_to_connect(name: str) -> None:
    with pytest.raises(httpcore.ConnectError):
        await JudgedNetwork(public_and(()), 1000).connect_tcp(name, 1, timeout=20)


class Names(trio.abc.HostnameResolver):
    """A resolver whose answers change from one question to the next, as a rebinding one's do."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def getaddrinfo(self, host: object, port: object, *_: object, **__: object) -> list[tuple]:  # type: ignore[type-arg]  # a fake has no need of all of it
        found = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    async def getnameinfo(self, *_: object) -> tuple[str, str]:
        raise NotImplementedError


async def test_a_name_is_resolved_once_and_its_judged_address_is_connected_to() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        names = Names(["10.0.0.1", "127.0.0.1"], ["10.0.0.1"])
        trio.socket.set_custom_hostname_resolver(names)
        network = JudgedNetwork(public_and([ip_network("127.0.0.0/8")]), 100)
        stream = await network.connect_tcp("rebinding.test", listening.getsockname()[1], 5)
        await stream.aclose()
        assert names.asked == 1
        listening.settimeout(10)
        listening.accept()[0].close()


async def test_a_name_with_private_addresses_only_is_refused() -> None:
    trio.socket.set_custom_hostname_resolver(Names(["127.0.0.1", "10.0.0.1"]))
    with pytest.raises(NotAllowed):
        await JudgedNetwork(public_and(()), 100).connect_tcp("rebinding.test", 80, 5)


async def test_one_that_nobody_listens_at_cannot_be_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(httpcore.ConnectError):
            await JudgedNetwork(anywhere, 100).connect_tcp("127.0.0.1", free.getsockname()[1], 5)
