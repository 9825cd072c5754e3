import json

from compat.report import Result, as_json, closing_line, exit_code, table

PASSED = Result("register", "js", "passed", "", 12.3)
FAILED = Result("register", "trio", "failed", "no \x1b[31mnode\n here", 45.6)
SKIPPED = Result("worker", "protocol", "skipped", "no key", 0.0)


def test_the_table_has_a_row_for_each_scenario_and_a_column_for_each_client() -> None:
    assert table([PASSED, FAILED, SKIPPED]).splitlines() == [
        "scenario  js            trio          protocol",
        "--------  ------------  ------------  --------",
        "register  passed 12 ms  FAILED 46 ms",
        "worker                                skipped",
        "",
        r"FAILED  register / trio: no \x1b[31mnode\n here",
        "skipped  worker / protocol: no key",
    ]


def test_the_table_of_a_clean_run_ends_with_its_last_row() -> None:
    assert table([PASSED]).splitlines()[-1] == "register  passed 12 ms"


def test_the_closing_line_counts() -> None:
    assert closing_line([PASSED, PASSED, FAILED, SKIPPED]) == "2 passed, 1 failed, 1 skipped"


def test_only_a_failure_makes_the_exit_code_1() -> None:
    assert exit_code([PASSED, SKIPPED]) == 0
    assert exit_code([PASSED, FAILED]) == 1


def test_the_json_holds_every_result() -> None:
    document = json.loads(as_json("http://x", [PASSED, FAILED, SKIPPED]))
    assert (document["base_url"], document["passed"], document["failed"], document["skipped"]) == ("http://x", 1, 1, 1)
    assert document["results"][1] == {
        "scenario": "register",
        "client": "trio",
        "outcome": "failed",
        "reason": "no \x1b[31mnode\n here",
        "ms": 45.6,
    }
