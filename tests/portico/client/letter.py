"""A C-Client that follows docs/reference/protocol.md ("What a client keeps") to the letter, and knows nothing else.

No line of it was written with another source than that page. It does no I/O, so that a test can cut its connection
between any two messages.
"""

from typing import Any


class LetterClient:
    """The four rules. `handled` is what its program got: pushes, and the streams of each gap."""

    def __init__(self, **identity: str) -> None:
        self.identity = identity
        self.epoch = ""
        self.offsets: dict[str, int] = {}
        self.handled: list[Any] = []
        self._kept = False

    def first_message(self) -> dict[str, Any]:
        """Rule 4: the first registration on each new connection carries what is kept."""
        message: dict[str, Any] = {"type": "c_client_register", **self.identity}
        if self._kept:
            message["resume"] = {"epoch": self.epoch, "offsets": dict(self.offsets)}
        return message

    def on_message(self, message: dict[str, Any]) -> None:
        """One message from the gateway."""
        if message["type"] == "registration_success":  # rule 1
            resume = message["resume"]
            self.epoch, self.offsets = resume["epoch"], dict(resume["offsets"])
            self._kept = True
            if not resume["recovered"] and resume.get("lost"):
                self.handled.append(sorted(resume["lost"]))
        elif message["type"] == "stream_gap":  # rule 3
            self.handled.append(sorted(message["streams"]))
            if message["epoch"] != self.epoch:
                self.epoch = message["epoch"]
                self.offsets = dict.fromkeys(self.offsets, -1)
            self.offsets |= message["offsets"]
        elif "stream" in message and "offset" in message:  # rule 2
            if message["offset"] <= self.offsets[message["stream"]]:
                return
            self.handled.append(message)
            self.offsets[message["stream"]] = message["offset"]
        else:
            self.handled.append(message)

    def has_heard(self, n: int) -> bool:
        """Whether its program got the push with this `n`."""
        return any(isinstance(message, dict) and message.get("n") == n for message in self.handled)

    @property
    def was_told_of_a_gap(self) -> bool:
        """Whether its program got to know that something may be missing."""
        return any(isinstance(message, list) for message in self.handled)
