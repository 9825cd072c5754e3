"""The user dialect, /ws/{user_id}: text is echoed, pushes are flat objects; it has no other messages.

Source: protocol reference, "User dialect".
"""

from ..faults import PeerFault
from ..frame import Frame
from ..messages import Event, encode, flat


def echo(text: bytes) -> Frame:
    """The answer to a text, for all of the user's connections in this dialect."""
    return Frame(b"Echo: " + text)


def push(event: Event) -> Frame:
    """A push in this dialect: what another program published over Redis, as it came."""
    return Frame(flat(event) if event.plain is None else event.plain)


def error(fault: PeerFault) -> Frame:
    """The answer to a message that cannot be accepted."""
    return Frame(encode({"type": "error", "code": fault.code, "message": fault.message}))
