"""A report put into the documentation: its figures between the marks, the rest of the page as it was."""

import shutil
from pathlib import Path

import pytest

from loadtest._capacity import _docs
from loadtest._capacity._comparison import Measured, read, write
from tests.gateways import ROOT

from .results import comparison, measured, stage


def _folders(tmp_path: Path) -> tuple[Path, Path]:
    out, docs = tmp_path / "out", tmp_path / "docs"
    out.mkdir()
    (docs / "discussion").mkdir(parents=True)
    (out / "report.html").write_text("the page")
    return out, docs


def test_the_figures_replace_what_is_between_the_marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)  # no browser
    out, docs = _folders(tmp_path)
    page = docs / "discussion" / "capacity.md"
    shutil.copyfile(ROOT / "docs/discussion/capacity.md", page)
    before, after = page.read_text().split(_docs.BEGIN)[0], page.read_text().split(_docs.END)[1]
    report = comparison(measured("serve", stage(100)), Measured("split", "a|b", 3, failed="no redis-server"))
    write(report, out / "report.json")
    for _ in range(2):
        assert "0 pictures" in _docs.put(report, out, docs)
        text = page.read_text()
        assert text.startswith(before)
        assert text.endswith(after)
        assert text.count("| the mode serve | 100 | – | none seen | 4 | 2 | 0 / 0 |".replace("| 2 |", "| 4 |")) == 1
        assert "| a\\|b | not measured | no redis-server | none seen | – | – | – |" in text
    assert (docs / "capacity/report.html").read_text() == "the page"
    kept = docs / "capacity/report.json"
    assert kept.read_text().count("\n") == 1  # without its line breaks
    assert read(kept) == read(out / "report.json")


def test_a_page_without_marks_is_left_as_it_is(tmp_path: Path) -> None:
    out, docs = _folders(tmp_path)
    (docs / "discussion" / "capacity.md").write_text("mine\n")
    with pytest.raises(ValueError, match="the figures go between them"):
        _docs.put(comparison(measured("serve", stage(100))), out, docs)
    assert (docs / "discussion" / "capacity.md").read_text() == "mine\n"
    assert not (docs / "capacity").exists()
