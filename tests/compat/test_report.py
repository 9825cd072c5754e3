import dataclasses
import json
import re
from xml.etree import ElementTree

from compat.certificate import Subject, as_html, as_json, as_junit
from compat.report import Result, closing_line, exit_code, table

PASSED = Result("register", "js", "passed", "", 12.3)
FAILED = Result(
    "register",
    "trio",
    "failed",
    "no \x1b[31m<node>\n here",
    45.6,
    ("a > {}", "a < <script>alert(1)</script>\x1b&\u202e"),
)
SKIPPED = Result("worker", "protocol", "skipped", "no key", 0.0)


def test_the_table_has_a_row_for_each_scenario_and_a_column_for_each_client() -> None:
    assert table([PASSED, FAILED, SKIPPED]).splitlines() == [
        "scenario  js            trio          protocol",
        "--------  ------------  ------------  --------",
        "register  passed 12 ms  FAILED 46 ms",
        "worker                                skipped",
        "",
        r"FAILED  register / trio: no \x1b[31m<node>\n here",
        "skipped  worker / protocol: no key",
    ]


def test_the_table_of_a_clean_run_ends_with_its_last_row() -> None:
    assert table([PASSED]).splitlines()[-1] == "register  passed 12 ms"


def test_the_closing_line_counts() -> None:
    assert closing_line([PASSED, PASSED, FAILED, SKIPPED]) == "2 passed, 1 failed, 1 skipped"


def test_only_a_failure_makes_the_exit_code_1_or_a_skip_where_that_is_asked_for() -> None:
    assert exit_code([PASSED, SKIPPED]) == 0
    assert exit_code([PASSED, FAILED]) == 1
    assert exit_code([PASSED], fail_on_skip=True) == 0
    assert exit_code([PASSED, SKIPPED], fail_on_skip=True) == 1


def test_what_was_skipped_for_one_reason_is_one_line() -> None:
    many = [Result(f"s{number}", "ws", "skipped", "no npm", 0.0) for number in range(5)]
    assert table(many).splitlines()[-1] == "skipped  5 scenarios / ws: no npm"


SUBJECT = Subject(
    "http://x",
    "integrated",
    "development",
    "1.2",
    "ws://x/<b>",
    1732000000.5,
    12.0,
    {"js": "node"},
    {"register": "<i>it</i>"},
    "2025-10-20 15:30:45 +0000",
)


def test_the_json_holds_every_result() -> None:
    document = json.loads(as_json(SUBJECT, [PASSED, FAILED, SKIPPED]))
    assert (document["base_url"], document["passed"], document["failed"], document["skipped"]) == ("http://x", 1, 1, 1)
    assert (document["mode"], document["version"], document["complete"]) == ("integrated", "1.2", True)
    assert document["results"][1]["reason"] == "no \x1b[31m<node>\n here"
    assert document["results"][1]["transcript"] == list(FAILED.transcript)


def test_the_xml_is_what_continuous_integration_reads() -> None:
    suite = ElementTree.fromstring(as_junit(SUBJECT, [PASSED, FAILED, SKIPPED]))
    assert {name: suite.get(name) for name in ("tests", "failures", "skipped")} == {
        "tests": "3", "failures": "1", "skipped": "1",
    }  # fmt: skip
    passed, failed, skipped = suite
    assert (passed.get("classname"), passed.get("name"), list(passed)) == ("js", "register", [])
    assert failed[0].tag == "failure"
    assert "<script>alert(1)</script>" in (failed[0].text or "")
    assert skipped[0].tag == "skipped"


def test_the_page_needs_nothing_else_and_escapes_what_came_over_the_network() -> None:
    page = as_html(SUBJECT, [PASSED, FAILED, SKIPPED])
    assert "<script" not in page
    assert "<node>" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "&lt;i&gt;it&lt;/i&gt;" in page
    assert "1 passed, 1 failed, 1 skipped" in page
    assert not re.search(r"(src|href)=|url\(|@import", page)


def test_a_page_of_a_run_that_was_broken_off_says_so() -> None:
    assert "broken off" in as_html(dataclasses.replace(SUBJECT, complete=False), [PASSED])
