"""The names of keys and channels: what a channel is called is read again, and no two deployments share one."""

import pytest

from portico.wire.messages import ADDRESS_FIELDS, EVERYBODY, Target
from service.backplane.redis.names import Names, ordinary

TARGETS = [EVERYBODY, *(Target(kind, value) for kind in ADDRESS_FIELDS for value in ("x", "a:b", "", ":", "é", "*[{"))]


@pytest.mark.parametrize("target", TARGETS, ids=str)
def test_a_channel_says_whose_it_is(target: Target) -> None:
    names = Names("portico:")
    assert names.target(names.channel(target)) == target


def test_no_two_targets_share_a_channel() -> None:
    names = Names("portico:")
    channels = {names.channel(target) for target in TARGETS} | {names.inbox("all"), names.all_nodes}
    assert len(channels) == len(TARGETS) + 2


@pytest.mark.parametrize("other", [Names("other:"), Names("portico:", database=1)], ids=["prefix", "database"])
def test_another_deployment_has_other_channels(other: Names) -> None:
    names = Names("portico:")
    for target in TARGETS:
        assert names.channel(target) != other.channel(target)
        assert other.target(names.channel(target)) is None
    assert names.inbox("n") != other.inbox("n")
    assert names.all_nodes != other.all_nodes


def test_a_users_ordinary_channel_is_that_users_in_every_deployment() -> None:
    for names in (Names("portico:"), Names("other:", database=3)):
        assert names.target(ordinary("u:1")) == Target("user_id", "u:1")


@pytest.mark.parametrize(
    "channel",
    [b"", b"portico:", b"portico:@0:t:", b"portico:@0:t:nothing:x", b"portico:@0:t:all:x", b"portico:@0:n:x", b"x" * 50,
     b"portico:@0:t:user_id:\xff", b"notifications:\xff"],
)  # fmt: skip
def test_what_is_nobodys_channel(channel: bytes) -> None:
    assert Names("portico:").target(channel) is None


def test_on_a_cluster_our_channels_stay_in_their_slot_and_the_ordinary_ones_do_not() -> None:
    names = Names("portico:{portico}:", sharded=True)
    assert names.publish == b"SPUBLISH"
    assert names.is_sharded(names.channel(EVERYBODY))
    assert not names.is_sharded(ordinary("u"))
    assert not Names("portico:").is_sharded(Names("portico:").channel(EVERYBODY))


def test_the_keys_of_a_stream() -> None:
    names = Names("portico:")
    keys = [make(stream) for stream in ("all", "user:u1") for make in (names.history, names.meta)]
    fixed = [names.streams, names.lapses, names.sizes, names.epoch, names.scratch, names.id("all")]
    assert len({*keys, *fixed}) == len(keys) + len(fixed)
    assert all(key.startswith(b"portico:") for key in (*keys, *fixed))
