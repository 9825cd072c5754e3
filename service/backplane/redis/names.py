"""What Portico's keys and channels in Redis are called: here and nowhere else.

Knows the prefix. The keys of one stream share a hash tag, so that on a cluster they are in one slot. The one key
that is beside them in a script is that of a publisher's id, which counts whatever the target: there a cluster
needs a step of its own.
"""

from typing import Final

from service.wire.messages import ADDRESS_FIELDS, EVERYBODY, Target

ORDINARY: Final = b"notifications:"
"""What other programs publish on, for a user: never prefixed."""


class Names:
    """The names under one prefix, as the bytes that Redis gets."""

    def __init__(self, prefix: str) -> None:
        start = prefix.encode()
        self._targets = start + b"t:"
        self._inboxes = start + b"n:"
        self._history = start + b"h:{"
        self._meta = start + b"m:{"
        self._ids = start + b"i:"
        self.all_nodes: Final = start + b"nodes"
        self.epoch: Final = start + b"epoch"

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
        return b"%b%b}" % (self._history, stream.encode())

    def meta(self, stream: str) -> bytes:
        """What is known of a stream besides its events."""
        return b"%b%b}" % (self._meta, stream.encode())

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
