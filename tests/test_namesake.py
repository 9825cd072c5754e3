"""What is said where a user's package has the name of the gateway's own."""

from pathlib import Path

import pytest

from service.extensions import ExtensionError
from service.extensions import extend as add
from service.namesake import hidden
from service.own_app.loading import OwnAppError
from service.own_app.loading import load as load_app


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a `service` of its own."""
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "prices.py").write_text("RATE = 3\n")
    (tmp_path / "own_shop.py").write_text("from service.prices import RATE\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_an_import_of_one_s_own_package_is_told_what_hides_it(folder: Path) -> None:
    for error in (
        ModuleNotFoundError("No module named 'service.prices'", name="service.prices"),
        ImportError("cannot import name 'prices' from 'service'", name="service"),
    ):
        said = hidden(error)
        assert said is not None
        assert str(folder / "service") in said
        assert "another name" in said


def test_other_errors_are_their_author_s_affair(folder: Path) -> None:
    assert hidden(ModuleNotFoundError("No module named 'services'", name="services")) is None
    assert hidden(ImportError("who knows")) is None
    assert hidden(RuntimeError("service")) is None


def test_without_such_a_package_nothing_is_guessed() -> None:
    assert hidden(ModuleNotFoundError("No module named 'service.prices'", name="service.prices")) is None


def test_an_app_and_an_extension_are_told(folder: Path) -> None:
    with pytest.raises(OwnAppError, match="is the gateway's own package and hides yours"):
        load_app("own_shop:app")
    with pytest.raises(ExtensionError, match="is the gateway's own package and hides yours"):
        add(None, ["own_shop"])  # type: ignore[arg-type]  # it is not got to
