"""Chat: the command itself, from a request's data to its parts and its result.

Knows no gateway and no connection of a worker's: whoever serves it hands in where parts go (`in_process` in a gateway,
`cli.worker` in a worker). Counts how answers end, how soon they begin and what they take; the report of an answer has
numbers and words of our own, nothing that a person or the API said.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio

from service.core.counters import Counters

from .completions import Completions, OnText, open_completions
from .conversation import question_of
from .faults import ChatFault, Ending
from .pacing import Pacing
from .reading import Reading
from .report import Answered
from .rules import ChatRules

Part = Callable[[Any], Awaitable[None]]

_ENDINGS: Final = {"length": Ending.CUT_SHORT, "content_filter": Ending.FILTERED}


class Chat:
    """The command `chat`, by these rules."""

    def __init__(
        self,
        rules: ChatRules,
        completions: Completions,
        counters: Counters,
        report: Callable[[Answered], None] = lambda answered: None,
    ) -> None:
        self._rules = rules
        self._completions = completions
        self._counters = counters
        self._report = report

    async def answer(self, params: object, *, stream: bool, part: Part) -> dict[str, Any]:
        """Answer one request: its text goes to `part` as it comes (`{"delta": "…"}`) where a `stream` is wanted, and is
        in the result where not. Raises ChatFault, and what `part` raises. Cancelling is safe."""
        run = _Run(part if stream else None)
        ending = Ending.INTERNAL
        reading: Reading | None = None
        try:
            question = question_of(params, self._rules)
            reading = await run.through(lambda on_text: self._completions.answer(question, on_text))
            ending = _ENDINGS.get(reading.finish_reason or "", Ending.ANSWERED)
            return run.result(reading)
        except ChatFault as fault:
            ending = fault.ending
            raise
        except trio.Cancelled:
            ending = Ending.CANCELLED
            raise
        except BaseExceptionGroup as group:  # of the tasks of a stream
            if group.split(trio.Cancelled)[1] is None:
                ending = Ending.CANCELLED
            raise
        finally:
            self._count(Answered(ending, run.seconds, run.first_token, None if reading is None else reading.usage))

    def _count(self, answered: Answered) -> None:
        counters = self._counters
        counters.chat_answers[answered.ending] += 1
        if answered.first_token is not None:
            counters.chat_first_token_latency.observe(answered.first_token)
        if answered.usage is not None:
            counters.chat_tokens["prompt"] += answered.usage.prompt_tokens
            counters.chat_tokens["completion"] += answered.usage.completion_tokens
        self._report(answered)


class _Run:
    """One answer under way."""

    def __init__(self, part: Part | None) -> None:
        self._part = part
        self._text: list[str] = []  # of an answer that isn't streamed
        self._started = trio.current_time()
        self.first_token: float | None = None

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return trio.current_time() - self._started

    async def through(self, ask: Callable[[OnText], Awaitable[Reading]]) -> Reading:
        """Ask, and pass on what comes. What came before a fault is passed on before it is raised."""
        if self._part is None:
            return await ask(self._keep)
        pacing = Pacing()
        broken: Exception | None = None

        async def pass_on(part: Part) -> None:
            nonlocal broken
            try:
                await pacing.run(lambda text: part({"delta": text}))
            except Exception as error:
                broken = error
                nursery.cancel_scope.cancel()

        async def add(text: str) -> None:
            self._note_first()
            await pacing.add(text)

        reading: Reading | None = None
        fault: ChatFault | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pass_on, self._part)
            try:
                reading = await ask(add)
            except ChatFault as error:
                fault = error
            pacing.close()
        if broken is not None:
            raise broken
        if fault is not None:
            raise fault
        assert reading is not None
        return reading

    async def _keep(self, text: str) -> None:
        self._note_first()
        self._text.append(text)

    def _note_first(self) -> None:
        if self.first_token is None:
            self.first_token = self.seconds

    def result(self, reading: Reading) -> dict[str, Any]:
        """The final answer, as JSON has it."""
        usage = reading.usage
        result: dict[str, Any] = {
            "finish_reason": reading.finish_reason or "stop",
            "model": reading.model,
            "usage": None
            if usage is None
            else {
                "prompt_tokens": usage.prompt_tokens,
                "completion_tokens": usage.completion_tokens,
                "total_tokens": usage.total_tokens,
            },
            "time_to_first_token_ms": None if self.first_token is None else round(self.first_token * 1000),
        }
        return result if self._part is not None else {"content": "".join(self._text), **result}


@asynccontextmanager
async def open_chat(
    rules: ChatRules, counters: Counters, report: Callable[[Answered], None] = lambda answered: None
) -> AsyncIterator[Chat]:
    """The command, for as long as the body runs."""
    async with open_completions(rules) as completions:
        yield Chat(rules, completions, counters, report)
