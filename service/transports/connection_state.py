"""The states of a native connection, and the moves between them.

    HEAD     reading the request head       → OPEN, ENDING (an HTTP answer went out), GONE
    OPEN     messages both ways             → CLOSING (we closed first, or a message is too large), ENDING (they
             did, or another fault), GONE
    CLOSING  our Close is on its way; what comes is discarded, up to theirs → ENDING, GONE
    ENDING   all is said: write the rest, half-close, read on to the end, so that the peer sees our
             last words rather than a reset → GONE
    GONE     the descriptor is no longer ours

Every state but OPEN has a deadline, so no peer can make its connection stay. The states are plain numbers in this order
because they are compared for every read: `state > OPEN` means that what is read is not a message any more.
"""

from typing import Final

HEAD: Final = 0
OPEN: Final = 1
CLOSING: Final = 2
ENDING: Final = 3
GONE: Final = 4
