"""Epochs: which one the history is of, which are over, and which ids were delivered not long ago.

Knows names and ids; nothing of streams. A push names the epoch in which Redis accepted it. One of an epoch that is over
comes from a Redis that was frozen and has woken, after another has taken its place: it is not delivered, for it is in
no history any more and its publisher was told so.

A live push without an id is in no history, so the end of an epoch says nothing against one that was still on its way.
It is dropped as late only if a newer push of the same publisher was heard before it.

When another Redis takes over it may not know an id that the one before had accepted, and one that throws keys away may
have forgotten it: the publisher's next try is accepted again. `is_repeated` tells such a push, as far as this node has
delivered it; bounded by REMEMBERED ids and seconds.
"""

from collections import OrderedDict, deque
from typing import Final

REMEMBERED: Final = 20_000
"""Ids of pushes that were delivered last."""
REMEMBERED_SECONDS: Final = 280.0
"""A little less than Redis is to remember an id: what it accepts after that is another push."""
OVER: Final = 16
"""Names of epochs that are known to be over."""
PUBLISHERS: Final = 1000
"""Nodes whose newest push is known."""
LIFE: Final = 24
"""Bits of a push's number that count; those above say in which life its node was, and nothing of before and after."""


class Epochs:
    """What one node knows of epochs. `name` is the present one's (empty: not known yet), `word` the same as bytes."""

    __slots__ = ("_delivered", "_newest", "_over", "name", "word")

    def __init__(self) -> None:
        self.name = ""
        self.word = b""
        self._over: deque[bytes] = deque(maxlen=OVER)
        self._delivered: OrderedDict[str, float] = OrderedDict()
        self._newest: dict[str, int] = {}

    def begin(self, name: str) -> bool:
        """The present epoch has this name. Returns whether another one has ended."""
        if name == self.name:
            return False
        ended = bool(self.name)
        if ended:
            self._over.append(self.word)
        self.name, self.word = name, name.encode()
        return ended

    def is_over(self, word: bytes) -> bool:
        """Whether this was an epoch before the present one."""
        return word in self._over

    def is_late(self, node: str, number: int, word: bytes, *, matters: bool) -> bool:
        """Whether a push, which `node` gave this number, names an epoch that is over and was overtaken by another of
        that node. It counts as heard now. Not before the first epoch has ended; `matters` False: it only counts."""
        if not self._over:
            return False
        newest = self._newest.get(node, 0)
        if number >= newest or number >> LIFE != newest >> LIFE:
            if len(self._newest) >= PUBLISHERS:
                self._newest.clear()
            self._newest[node] = number
            return False
        return matters and self.is_over(word)

    def is_repeated(self, push_id: str, now: float, joined_at: float) -> bool:
        """Whether a push with this id was delivered here not long ago, and since `joined_at`; it counts as delivered
        now if not."""
        known = self._delivered.get(push_id)
        if known is not None and max(joined_at, now - REMEMBERED_SECONDS) < known:
            return True
        self._delivered[push_id] = now
        if len(self._delivered) > REMEMBERED:
            self._delivered.popitem(last=False)
        return False
