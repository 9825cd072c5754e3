"""The command `chat` as `portico worker --commands chat` serves it.

The settings are the gateway's own, and so is what answers (`service.chat`): here it becomes a handler of the SDK's
worker, and each answer a line on standard error.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from portico.client.handlers import CommandFailed, current_call, send_part
from service.settings import Settings

from .outcomes import WRONG, fail

if TYPE_CHECKING:
    from service.chat.command import Chat
    from service.chat.report import Answered
    from service.chat.rules import ChatRules

CHAT: Final = "chat"


class ChatHandler:
    """Answers `chat` while it is `opened`."""

    def __init__(self, rules: "ChatRules") -> None:
        self._rules = rules
        self._chat: Chat | None = None

    @property
    def concurrency(self) -> int:
        """Answers at a time."""
        return self._rules.concurrency

    @asynccontextmanager
    async def opened(self, tell: Callable[[str], None]) -> AsyncIterator[None]:
        """Keep connections to the API for as long as the body runs; `tell` gets a line for each answer."""
        from service.chat.command import open_chat  # it needs httpx
        from service.core.counters import Counters

        async with open_chat(self._rules, Counters(), lambda answered: tell(_line(answered))) as self._chat:
            yield

    async def answer(self, params: Any) -> Any:
        """The handler. Raises CommandFailed."""
        from service.chat.faults import ChatFault

        assert self._chat is not None  # requests come only while it is opened
        try:
            return await self._chat.answer(params, stream=current_call().stream, part=send_part)
        except ChatFault as fault:
            raise CommandFailed(str(fault)) from None


def chat_of(settings: Settings) -> ChatHandler:
    """What answers `chat` by these settings. Ends with exit code 2 where there is no key."""
    from service.assembly import chat_rules

    rules = chat_rules(settings)
    if rules is None:
        fail(
            WRONG,
            "The command chat asks an API in the style of OpenAI's: set OPEN_API_KEY to its key (any text where it "
            "wants none), and OPEN_API_BASE_URL to where it is.",
        )
    return ChatHandler(rules)


async def not_served(_params: Any) -> None:
    """Stands for `chat` where it is known and not served. Raises CommandFailed."""
    raise CommandFailed("This worker does not serve chat.")


def _line(answered: "Answered") -> str:
    first = "" if answered.first_token is None else f", first text after {answered.first_token:.2f} s"
    usage = answered.usage
    tokens = "" if usage is None else f", {usage.prompt_tokens} + {usage.completion_tokens} tokens"
    return f"chat: {answered.ending.value} after {answered.seconds:.2f} s{first}{tokens}"
