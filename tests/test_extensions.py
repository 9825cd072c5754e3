"""Extensions that cannot be used say so. (That those of the how-to work is shown in test_extend.py.)"""

from pathlib import Path

import pytest

from service.extensions import ExtensionError, extend
from tests.fakes import stage


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (None, "cannot be imported"),
        ("import no_such_module_at_all\n", "cannot be imported"),
        ("x = 1\n", "has no function extend"),
        ("extend = 5\n", "has no function extend"),
        ("import nothing_of_that_name\n", "cannot be imported"),
        ("x = 1 / 0\n", r"cannot be imported: ZeroDivisionError: .* \(line 1 of .*extension_"),
        ("def extend(context) -> None\n", "cannot be imported: SyntaxError"),
        ("def extend(context):\n    context.add_action('get_time', print)\n", "there is an action 'get_time' already"),
        ("def extend(context):\n    context.add_message_type('heartbeat', print)\n", "'heartbeat' already"),
        ("def extend(context):\n    context.add_custom_event('capacity', print)\n", "'capacity' already"),
        (
            "def extend(gateway):\n    gateway.actions.add('x', print)\n",
            r"could not be added: AttributeError: .* \(line 2",
        ),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, sentence: str
) -> None:
    name = f"extension_{0 if source is None else hash(source) & 0xFFFF_FFFF:x}"
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExtensionError, match=sentence) as caught:
        extend(stage().gateway, [name])
    assert name in str(caught.value)


def test_modules_are_called_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("extension_one", "extension_two"):
        (tmp_path / f"{name}.py").write_text(
            f"def extend(context):\n    context.order = [*getattr(context, 'order', []), {name!r}]\n"
            "    if len(context.order) == 2:\n        raise ValueError(context.order)\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExtensionError, match=r"\['extension_two', 'extension_one'\]"):
        extend(stage().gateway, ["extension_two", "extension_one"])
