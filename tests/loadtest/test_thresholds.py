import re
from pathlib import Path

import pytest

from loadtest import _thresholds
from loadtest._thresholds import Threshold, ThresholdsError, load, shown


def write(folder: Path, text: str) -> Path:
    path = folder / "t.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_file_that_comes_with_it_speaks_of_every_step_and_of_the_run() -> None:
    found = load(Path(_thresholds.__file__).with_name("thresholds.toml"))
    always = {"discover", "connect", "register", "heartbeat", "push", "delivery", "broadcast"}
    assert {threshold.step for threshold in found.limits} == {*always, None}
    assert found.load == _thresholds.LOAD_DEFAULTS


def test_its_comments_name_all_that_there_is_and_the_defaults_that_there_are() -> None:
    text = Path(_thresholds.__file__).with_name("thresholds.toml").read_text(encoding="utf-8")
    for name in (*_thresholds.STEPS, *_thresholds.PERCENTILES):
        assert re.search(rf"\b{name}\b", text), name
    for table in (_thresholds._RUN_LIMITS, _thresholds._SERVER_LIMITS):
        for name in table:
            assert (
                name in text or re.sub("_delivered_share$", "_…", name) in text or name == "min_durable_delivered_share"
            )
    for name, value in _thresholds.LOAD_DEFAULTS.items():
        assert f"{name} = {value:g} " in text, name


def test_steps_come_in_the_order_of_a_clients_life_whatever_the_files_order(tmp_path: Path) -> None:
    text = "[run]\nmin_registered = 3\n[steps.delivery]\np99_ms = 5.5\n[steps.discover]\nmax_failure_ratio = 0"
    assert load(write(tmp_path, text)).limits == (
        Threshold("discover", "max_failure_ratio", 0.0),
        Threshold("delivery", "p99_ms", 5.5),
        Threshold(None, "min_registered", 3.0),
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "holds no threshold: give it a [run] or a [steps.<step>] table."),
        ("[run", "is not TOML: "),
        ("[steps]\n[run]\n", "holds no threshold"),
        ("[step.connect]\np95_ms = 1", "has an unknown table, 'step': those there are, are steps, run, server, load."),
        ("[steps.conect]\np95_ms = 1", "has an unknown step, 'conect': those there are, are discover, connect"),
        ("[steps.connect]\np97_ms = 1", "has an unknown threshold in [steps.connect], 'p97_ms': those there are"),
        ("[load]\nmax_stall_ms = 5\n", "holds no threshold"),
        ("[load]\nmax_stall = 5\n", "has an unknown threshold in [load], 'max_stall'"),
        ("[run]\np95_ms = 1", "has an unknown threshold in [run], 'p95_ms'"),
        ("steps = 3", "has a value where the table [steps] should be."),
        ("[steps]\nconnect = 3", "has a value where the table [steps.connect] should be."),
        ("run = []", "has a value where the table [run] should be."),
    ],
)
def test_what_is_no_thresholds_file_gets_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ThresholdsError) as caught:
        load(path)
    assert str(caught.value).startswith(f"The thresholds file {path} {sentence}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "max_failure_ratio = 1",
        "max_failure_ratio = 1.5",
        "max_failure_ratio = -0.1",
        "max_failure_ratio = nan",
        "max_failure_ratio = true",
        'max_failure_ratio = "0.1"',
        "p95_ms = inf",
        "p95_ms = nan",
        "p95_ms = 0",
        "p95_ms = []",
    ],
)
def test_a_limit_on_a_step_that_could_never_fail_or_never_pass_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ThresholdsError, match=r"in \[steps\.push\]: it must be a number"):
        load(write(tmp_path, f"[steps.push]\n{line}"))


@pytest.mark.parametrize(
    "line",
    [
        "min_registered = 0",
        "min_registered = 1.5",
        "min_registered = true",
        "min_registered_share = 0",
        "min_registered_share = 1.01",
        "min_delivered_share = nan",
        "max_unexpected_disconnects = -1",
        "max_unexpected_disconnects = 0.5",
    ],
)
def test_a_limit_on_the_run_that_could_never_fail_or_never_pass_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ThresholdsError, match=r"in \[run\]: it must be a "):
        load(write(tmp_path, f"[run]\n{line}"))


@pytest.mark.parametrize(
    "line",
    [
        "[server]\nmax_memory_mb = 0",
        "[server]\nmax_cpu_share = inf",
        "[load]\nmax_stall_ms = 0",
        "[load]\nmax_steal_share = 1",
    ],
)
def test_a_limit_on_the_machines_that_could_never_fail_or_never_pass_is_refused(tmp_path: Path, line: str) -> None:
    with pytest.raises(ThresholdsError, match=r"it must be a number"):
        load(write(tmp_path, line))


def test_what_the_load_must_hold_has_defaults_and_can_be_set(tmp_path: Path) -> None:
    found = load(write(tmp_path, "[run]\nmin_registered = 1\n[load]\nmax_stall_ms = 5\n"))
    assert found.load == {**_thresholds.LOAD_DEFAULTS, "max_stall_ms": 5.0}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    path = tmp_path / "none.toml"
    with pytest.raises(ThresholdsError) as caught:
        load(path)
    assert str(caught.value) == f"The thresholds file {path} cannot be read: No such file or directory."


def test_a_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "t.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ThresholdsError, match=r"is not UTF-8 text\.$"):
        load(path)


def test_a_report_names_its_thresholds_as_its_reader_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert shown(str(tmp_path / "mine" / "a.toml")) == str(Path("mine", "a.toml"))
    monkeypatch.chdir(tmp_path / "mine")
    assert shown(str(tmp_path / "b.toml")) == "b.toml"
