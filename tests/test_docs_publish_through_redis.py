"""The commands of "Publish through Redis" do what the page says, as the user that it says may do nothing else."""

import re
import shlex
import socket
from pathlib import Path

import trio

from service.backplane.redis.ingress import Ingress
from service.core.cluster.backplane import Publication
from service.core.push.publications import publication_of
from service.observe import make_log
from tests.backplane.redis.links import link
from tests.backplane.redis_server import redis_server

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "publish-through-redis.md").read_text()
LINES = re.findall(r"^\$ redis-cli (.*)$", PAGE, re.MULTILINE)


def told(port: int, *commands: list[str]) -> list[bytes]:
    """What Redis answers on one connection; every answer here is one line or a short text."""
    answers = []
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for words in ([word.encode() for word in command] for command in commands):
            connection.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(w), w) for w in words))
            answers.append(connection.recv(65_536))
    return answers


async def test_the_page(tmp_path: Path) -> None:
    publish, add, dead, user = map(shlex.split, LINES)
    publications: list[Publication] = []
    heard = trio.Event()

    def accept(publication: Publication, done: object) -> None:
        assert callable(done)
        publications.append(publication)
        done(None)
        heard.set()

    with redis_server(tmp_path / "redis") as redis:
        assert told(redis.port, user) == [b"+OK\r\n"]
        password = next(word[1:] for word in user if word.startswith(">"))
        login = ["AUTH", "shop", password]
        _, nobody, added, refused = told(redis.port, login, publish, add, ["XLEN", "portico:ingress"])
        assert nobody == b":0\r\n"
        assert added.startswith(b"$")
        assert refused.startswith(b"-NOPERM")
        commands = link(redis.url)
        ingress = Ingress(
            commands.ask, accept, publication_of, node=lambda: "n", lease=5, log=make_log("json", "critical")
        )
        async with trio.open_nursery() as nursery:
            await nursery.start(commands.run)
            nursery.start_soon(ingress.run)
            with trio.fail_after(10):
                await heard.wait()
            nursery.cancel_scope.cancel()
        assert told(redis.port, dead) == [b"*0\r\n"]
    (publication,) = publications
    assert (publication.target.value, publication.event.type, bytes(publication.event.data)) == (
        "u1",
        "cart_updated",
        b'{"items": 3}',
    )
