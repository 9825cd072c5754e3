"""Extensions that cannot be used say so. (That those of the how-to work is shown in test_extend_docs.py.)"""

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
        ("def extend(gateway):\n    gateway.actions.add('get_time', print)\n", "there is an action 'get_time' already"),
        ("def extend(gateway):\n    gateway.c_clients.add('heartbeat', print)\n", "already"),
    ],
)
def test_what_cannot_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, sentence: str
) -> None:
    name = f"extension_{0 if source is None else len(source)}"
    if source is not None:
        (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExtensionError, match=sentence) as caught:
        extend(stage().gateway, [name])
    assert name in str(caught.value)


def test_modules_are_called_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("extension_one", "extension_two"):
        (tmp_path / f"{name}.py").write_text(f"def extend(gateway):\n    gateway.order.append({name!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    gateway = stage().gateway
    gateway.order = []  # type: ignore[attr-defined]
    extend(gateway, ["extension_two", "extension_one"])
    assert gateway.order == ["extension_two", "extension_one"]  # type: ignore[attr-defined]
