"""Ports that several processes share: how they are claimed, and what is said where they cannot be."""

import socket

import pytest

from service.supervision.ports import Ports, PortTaken, close

SETTINGS = {"http": "PORT", "websocket": "WEBSOCKET_PORT"}


async def test_ports_that_are_0_are_chosen_and_every_process_gets_sockets_of_its_own() -> None:
    ports = Ports("127.0.0.1", {"http": 0, "websocket": 0}, SETTINGS)
    await ports.claim()
    assert 0 not in ports.numbers.values()
    first, second = await ports.open(listening=True), await ports.open(listening=True)
    try:
        for kind, number in ports.numbers.items():
            for sockets in (first, second):
                (sock,) = sockets[kind]
                assert sock.getsockname() == ("127.0.0.1", number)
                with socket.create_connection(("127.0.0.1", number), timeout=30):
                    pass
    finally:
        close(first)
        close(second)


async def test_a_port_of_another_is_refused_though_it_is_shared() -> None:
    ours = Ports("127.0.0.1", {"http": 0}, SETTINGS)
    await ours.claim()
    sockets = await ours.open(listening=True)
    try:
        number = ours.numbers["http"]
        with pytest.raises(PortTaken, match=f"port {number} .*: stop what uses it, or set PORT to another port"):
            await Ports("127.0.0.1", {"http": number}, SETTINGS).claim()
    finally:
        close(sockets)


@pytest.mark.parametrize("host", ["192.0.2.1", "nosuch.invalid", "a..b"])
async def test_a_host_that_is_not_ours_is_the_host_s_fault(host: str) -> None:
    with pytest.raises(PortTaken, match=f"{host}, which is no address of this machine: set HOST"):
        await Ports(host, {"http": 0}, SETTINGS).claim()
