"""What locust says of its stairs is passed on, each once."""

from pathlib import Path

from loadtest._capacity._run import _last_words, _tell


def test_each_stair_is_told_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        "[2026] vm/INFO/loadtest: hold 300: met; heartbeat p99 3 ms\nthreshold   limit\n"
        "hold 300: met; heartbeat p99 3 ms\n"
    )
    said: list[str] = []
    seen = _tell(log, 0, said.append)
    assert said == ["hold 300: met; heartbeat p99 3 ms"]
    assert _tell(log, seen, said.append) == seen
    assert len(said) == 1
    with log.open("a") as more:
        more.write("[2026] vm/INFO/loadtest: hold 600: met; heartbeat p99 4 ms\n")
    seen = _tell(log, seen, said.append)
    with log.open("a") as more:
        more.write("hold 300: met; heartbeat p99 3 ms\nhold 600: met; heartbeat p99 4 ms\n\nVerdict by …\n")
    _tell(log, seen, said.append)
    assert said == ["hold 300: met; heartbeat p99 3 ms", "hold 600: met; heartbeat p99 4 ms"]


def test_the_last_words_of_a_load_that_wrote_no_result(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n\nthe host is not there\n\n")
    assert _last_words(log, 2) == "the load ended with exit code 2: the host is not there"
    log.write_text("")
    assert _last_words(log, -9) == "the load ended with exit code -9: it says nothing"
