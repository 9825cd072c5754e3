"""What a listener prints of a push."""

from service.cli.listen import push_text, tell
from service.cli.screen import Screen


def test_a_push_is_a_line_with_its_place_in_the_stream() -> None:
    assert push_text({"type": "note", "a": 1}) == 'note  {"a":1}'
    shown = push_text({"type": "no\x1bte", "stream": "user:\x1bu1", "offset": 7, "a": "\u202e"})
    assert shown == r'no\x1bte  {"a":"\u202e"}  [user:\x1bu1 7]'


def test_what_happens_to_the_connection_is_no_answer() -> None:
    said: list[str] = []
    tell(Screen(as_json=True, write=said.append), "connected")  # type: ignore[arg-type]  # anything with a text
    assert said == ["connected\n"]
