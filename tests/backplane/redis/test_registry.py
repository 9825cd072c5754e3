"""Who is connected here, as it is written to Redis: changes in batches, or everything anew."""

import pytest
import trio

from service.backplane.redis import registry as module
from service.backplane.redis.registry import Present, Registry, registry_key
from service.redis.resp import Word


class Hash:
    """Redis' hash of one node, as the commands leave it. `asked` are the commands' names."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.asked: list[str] = []
        self.fields: dict[object, object] = {}

    async def ask(self, name: str, key: str, *words: Word) -> object:
        await trio.lowlevel.checkpoint()
        assert key == registry_key("portico:", "life-1")
        self.asked.append(name)
        match name:
            case "DEL":
                self.fields.clear()
            case "HSET":
                self.fields.update(zip(words[::2], words[1::2], strict=True))
            case "HDEL":
                for word in words:
                    self.fields.pop(word, None)
        return 1

    async def write_for(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self.registry.write(self.ask)  # type: ignore[arg-type]  # these commands


def made(*present: Present) -> Hash:
    registry = Registry("portico:", lambda: present)
    registry.begin("life-1")
    return Hash(registry)


async def test_everything_is_written_first_then_what_changes(autojump_clock: object) -> None:
    at = made(Present("s1", "c1", "ann"), Present("s2", None, None))
    at.registry.on_connected(Present("s3", "c3", None))
    assert at.registry.pending == 0, "everything is about to be written anyway"
    await at.write_for(1)
    assert at.fields == {"s1": b'["c1","ann"]', "s2": b"[null,null]"}
    assert at.asked == ["DEL", "HSET", "EXPIRE"]
    at.registry.on_connected(Present("s3", "c3", None))
    at.registry.on_left("s1")
    assert at.registry.pending == 2
    await at.write_for(1)
    assert at.fields == {"s2": b"[null,null]", "s3": b'["c3",null]'}
    assert at.asked[3:] == ["HSET", "HDEL"]
    at.registry.on_connected(Present("s4", None, None))
    at.registry.on_left("s4")
    await at.write_for(1)
    assert at.asked[5:] == ["HDEL"], "what came and went in between is gone"


async def test_too_many_changes_are_everything(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    at = made()
    await at.write_for(1)
    monkeypatch.setattr(module, "MAX_PENDING", 3)
    for number in range(4):
        at.registry.on_connected(Present(f"s{number}", None, None))
    assert at.registry.pending == 0
    at.asked.clear()
    await at.write_for(1)
    assert at.asked == ["DEL", "EXPIRE"]


async def test_what_is_written_goes_in_pieces(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 2)
    at = made(*(Present(f"s{number}", None, None) for number in range(5)))
    await at.write_for(1)
    assert at.asked == ["DEL", *["HSET"] * 3, "EXPIRE"]
    assert len(at.fields) == 5


async def test_what_was_written_is_taken_out() -> None:
    asked: list[tuple[object, ...]] = []

    async def ask(*words: object) -> object:
        await trio.lowlevel.checkpoint()
        asked.append(words)
        return [b"s1", b'["c1","ann"]', b"s2", b"[null,null]"]

    assert await module.pop(ask, "portico:", "life-1") == [("c1", "ann"), (None, None)]
    ((command, _, *rest),) = asked
    assert (command, rest) == ("EVALSHA", [1, registry_key("portico:", "life-1"), module.CHUNK])
