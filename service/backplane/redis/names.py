"""What Portico's keys and channels in Redis are called: here and nowhere else.

Knows the prefix, and the database. On a cluster the prefix holds a hash tag, so that all keys and channels are in one
slot. Pub/sub knows no databases, so a channel has the database's number in its name: deployments in two databases of
one Redis don't hear one another. The exception is the channel on which other programs push to a user, which has no
prefix either: what is published there reaches that user in every deployment on this Redis.
"""

from typing import Final

from portico.wire.messages import ADDRESS_FIELDS, EVERYBODY, Target

ORDINARY: Final = b"notifications:"
"""What other programs publish on, for a user: never prefixed."""


class Names:
    """The names under one prefix in one database, as the bytes that Redis gets. `sharded`: what is published goes to
    the nodes of its slot only, as on a cluster."""

    def __init__(self, prefix: str, *, database: int = 0, sharded: bool = False) -> None:
        start = prefix.encode()
        self._sharded = sharded
        self.publish: Final = b"SPUBLISH" if sharded else b"PUBLISH"
        """The command by which something is published on a channel of ours."""
        channels = b"%b@%d:" % (start, database)
        self.channels_shown: Final = f"&{channels.decode()}*"
        """All of our channels, as a rule of Redis's rights names them."""
        self._targets = channels + b"t:"
        self._inboxes = channels + b"n:"
        self.all_nodes: Final = channels + b"nodes"
        self.history_start: Final = start + b"h:{"
        """What the key of a history begins with, before its stream and a closing brace."""
        self.meta_start: Final = start + b"m:{"
        self._ids = start + b"i:"
        self.streams: Final = start + b"streams"
        """The index of all streams of which something is kept."""
        self.lapses: Final = start + b"lapses"
        """The events with a time of their own, by the moment at which it is over."""
        self.sizes: Final = start + b"sizes"
        """The bytes of each stream's events, and under the empty name those of all."""
        self.epoch: Final = start + b"epoch"
        self.scratch: Final = start + b"nothing"
        """A key in which nothing is kept."""

    def is_sharded(self, channel: bytes) -> bool:
        """Whether what is published there stays with those who serve its slot."""
        return self._sharded and not channel.startswith(ORDINARY)

    def channel(self, target: Target) -> bytes:
        """Where the pushes for a target go."""
        if target.kind == EVERYBODY.kind:
            return self._targets + b"all"
        return b"%b%b:%b" % (self._targets, target.kind.encode(), target.value.encode())

    def inbox(self, node: str) -> bytes:
        """Where one node hears what the others tell it."""
        return self._inboxes + node.encode()

    def history(self, stream: str) -> bytes:
        """The Redis stream that holds a stream's events."""
        return b"%b%b}" % (self.history_start, stream.encode())

    def meta(self, stream: str) -> bytes:
        """What is known of a stream besides its events."""
        return b"%b%b}" % (self.meta_start, stream.encode())

    def id(self, order_id: str) -> bytes:
        """What became of the push with a publisher's id."""
        return self._ids + order_id.encode()

    def target(self, channel: bytes) -> Target | None:
        """The target whose pushes come on this channel (ours, or a user's ordinary one); None where no target's do."""
        try:
            if channel.startswith(ORDINARY):
                return Target("user_id", channel[len(ORDINARY) :].decode())
            if not channel.startswith(self._targets):
                return None
            kind, colon, value = channel[len(self._targets) :].decode().partition(":")
        except UnicodeDecodeError:
            return None
        if not colon:
            return EVERYBODY if kind == EVERYBODY.kind else None
        return Target(kind, value) if kind in ADDRESS_FIELDS else None


def ordinary(user_id: str) -> bytes:
    """The channel on which any program may push to a user."""
    return ORDINARY + user_id.encode()
