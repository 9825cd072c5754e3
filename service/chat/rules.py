"""How `chat` is set up: where the API is, what may be asked of it, and how long it may take."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ChatRules:
    """The settings of `chat`. Times in seconds.

    `base_url`: of the API, to which `/chat/completions` is added; `key`: its key, never shown. `model`: what answers
    unless the request names another one of `models` (`*` among them: any). `max_tokens`: of one answer, 0 for no
    limit; `max_messages` and `max_characters`: of one conversation; `concurrency`: answers at a time.
    `connect_timeout`: until the API is reached; `first_token_timeout`: from there to the answer's beginning;
    `stall_timeout`: the longest time in which nothing more comes.
    """

    base_url: str
    key: str = field(repr=False)
    model: str = "gpt-4o-mini"
    models: tuple[str, ...] = ()
    max_tokens: int = 4096
    max_messages: int = 200
    max_characters: int = 200_000
    concurrency: int = 16
    connect_timeout: float = 10.0
    first_token_timeout: float = 60.0
    stall_timeout: float = 30.0
