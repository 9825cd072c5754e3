"""Every check of the project's own papers can fail: in a copy of the tree each is given something that is wrong.

The faults are all put in at once, each with words of its own, and the checks run once over the copy. A check has seen
its fault if it fails and its failure names it; so one fault is not taken for another. The import law has a file of its
own (`test_import_law.py`), as have the compatibility suite (`compat/test_mutants.py`), the load test
(`loadtest/test_locust.py`), the promises (`test_docs_promises.py`) and the map of the modules (`test_module_map.py`).
"""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.gateways import ROOT

END = "\n"
"""In place of the old text: the fault is put at the end of the file."""


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong: in a file, `old` becomes `new`. `says` is in the failure of `check`, a test or some."""

    check: str
    file: str
    new: str
    says: str
    old: str = END


REGISTRY = ".".join(("pypi", "org"))  # not a name to be found in the tree
DOCS = "tests/test_docs.py::"
DEPLOY = "tests/test_docs_deploy.py::"
SECURITY = "tests/test_docs_security.py::"
FAULTS = [
    Fault(DOCS + "test_every_link_leads_somewhere", "README.md", "[a](no-such-file.md)", "no-such-file.md is no file"),
    Fault(
        DOCS + "test_every_link_leads_somewhere", "docs/tutorial.md", "[a](#no-such-part)", "no-such-part is no heading"
    ),
    Fault(DOCS + "test_every_page_is_in_the_index", "docs/how-to/an-orphan.md", "# An orphan", "an-orphan.md"),
    Fault(
        DOCS + "test_the_readme_opens_with_the_two_commands_and_the_page_and_leads_to_every_how_to",
        "README.md",
        "\nmake all     #",
        "make all",
        "\nmake test    #",
    ),
    Fault(DOCS + "test_every_file_that_is_named_exists", "README.md", "`http/no_such_file.py`", "http/no_such_file.py"),
    Fault(DOCS + "test_every_file_that_is_named_exists", "CHANGELOG.md", "`service/no_such_room/`", "no_such_room"),
    Fault(
        DOCS + "test_every_setting_that_is_named_exists", "CHANGELOG.md", "PORTICO_NO_SUCH_ONE", "PORTICO_NO_SUCH_ONE"
    ),
    Fault(DOCS + "test_every_setting_that_is_named_exists", "README.md", "`NO_SUCH_NAME=1`", "NO_SUCH_NAME"),
    Fault(DOCS + "test_every_route_that_is_named_exists", "docs/tutorial.md", "`PUT /api/clients`", "PUT /api/clients"),
    Fault(
        DOCS + "test_every_route_that_is_named_exists", "CHANGELOG.md", "see /api/no-such-route", "/api/no-such-route"
    ),
    Fault(DOCS + "test_nothing_is_said_of_the_place_where_it_was_made", "docs/README.md", "see issue 7", "issue"),
    Fault(DOCS + "test_nothing_is_said_of_the_place_where_it_was_made", "CHANGELOG.md", f"from {REGISTRY}", REGISTRY),
    Fault(
        DOCS + "test_nothing_is_said_of_the_place_where_it_was_made",
        "README.md",
        "see SECRET-PLAN.md",
        "SECRET-PLAN.md",
    ),
    Fault(
        DOCS + "test_the_table_of_close_codes",
        "docs/reference/protocol.md",
        "| 1001 | went away |",
        "went away",
        "| 1001 | going away |",
    ),
    Fault(
        DOCS + "test_the_table_of_error_codes",
        "docs/reference/protocol.md",
        "| `not_there` |",
        "not_there",
        "| `not_found` |",
    ),
    Fault(
        DOCS + "test_the_page_of_the_tutorial_heeds_the_close_codes", "docs/tutorial.md", "1009, 4002,", "4002", "1009,"
    ),
    Fault(
        DOCS + "test_what_docstrings_refer_to_in_the_http_api_is_there",
        "service/http/answers.py",
        '# HTTP API reference, "No such heading"',
        "No such heading",
    ),
    Fault(
        DOCS + "test_what_docstrings_refer_to_is_there",
        "service/roles.py",
        '# See the protocol reference, "No Such Part".',
        "No Such Part",
    ),
    Fault(
        DOCS + "test_the_examples_of_the_protocol_are_json",
        "docs/reference/protocol.md",
        "```json\n{'no': json}\n```",
        "{'no': json}",
    ),
    Fault(
        DOCS + "test_every_dependency_is_explained",
        "pyproject.toml",
        'dependencies = [\n    "unexplained>=1",',
        "unexplained",
        "dependencies = [",
    ),
    Fault(
        DOCS + "test_the_names_that_hang_on_hypercorn_are_all_told",
        "docs/discussion/dependencies.md",
        "a wrapper in",
        "worker_serve",
        "`worker_serve` in",
    ),
    Fault(DEPLOY + "test_the_procfile", "Procfile.split", "third: sleep 1", "third"),
    Fault(DEPLOY + "test_the_units", "systemd/portico.service", "[Install]\nNosuch", "Nosuch", "[Install]"),
    Fault(DEPLOY + "test_the_dockerfile", "Dockerfile", "FROM python:latest\nENV A=1 #", "stated version", "FROM"),
    Fault(
        DEPLOY + "test_the_compose_files_are_of_the_published_schema",
        "compose.yaml",
        "restarts:",
        "restarts",
        "restart:",
    ),
    Fault(
        DEPLOY + "test_the_compose_file",
        "compose.split.yaml",
        "redis://elsewhere:6379/0",
        "elsewhere",
        "redis://redis:6379/0",
    ),
    Fault(
        "tests/test_docs_size.py::test_the_choice_of_a_shard",
        "docs/how-to/size-a-deployment.md",
        'f"{shard}"',
        "1000",
        'f"{shard} {user_id}"',
    ),
    Fault(
        "tests/test_docs_promises.py::test_the_metrics_that_it_names_exist",
        "docs/discussion/promises.md",
        "`no_such_metric`",
        "no_such_metric",
        "`redis_commands_pending`",
    ),
    Fault(
        SECURITY + "test_the_tests_that_it_names_exist",
        "docs/discussion/security.md",
        "`test_tokens.py`: `test_no_such_times`",
        "test_no_such_times",
        "`test_tokens.py`: `test_times`",
    ),
    Fault(
        SECURITY + "test_every_attack_and_point_names_a_test_or_says_why_not",
        "docs/discussion/security.md",
        "| attack | what happens | tested by |\n|---|---|---|\n| an untested one | refused | it was tried |",
        "an untested one",
        "| attack | what happens | tested by |\n|---|---|---|",
    ),
    Fault(
        SECURITY + "test_its_settings_are_right_and_leave_nothing_open",
        "docs/how-to/secure-it.md",
        "PORTICO_AUTH=optional",
        "optional",
        "PORTICO_AUTH=required",
    ),
    Fault(
        SECURITY + "test_the_metrics_that_it_names_exist",
        "docs/how-to/secure-it.md",
        "`portico_no_such_total`",
        "portico_no_such_total",
        "`portico_proofs_refused_total`",
    ),
    Fault(
        "tests/http/test_reference.py::test_the_routes_are_those_of_the_app",
        "docs/reference/http-api.md",
        "| `PATCH /readyz",
        "PATCH",
        "| `GET /readyz",
    ),
    Fault(
        "tests/http/test_reference.py::test_every_status_is_explained",
        "docs/reference/http-api.md",
        "| 418 |",
        "409",
        "| 409 |",
    ),
    Fault(
        "tests/http/test_reference.py::test_the_limits_are_those_of_the_app",
        "docs/reference/http-api.md",
        "more than 17 MiB",
        "16 MiB; for a login",
        "more than 16 MiB",
    ),
    Fault(
        "tests/http/test_openapi.py::test_every_reference_resolves_and_every_schema_is_used",
        "service/http/openapi.py",
        '"schemas": {name: form for name, form in components.items() if name != "Receipt"},',
        "Receipt",
        '"schemas": components,',
    ),
    Fault(
        "tests/http/test_openapi.py::test_every_route_is_described",
        "service/http/openapi.py",
        "for route in ROUTES[1:]:\n        paths",
        "/api/",
        "for route in ROUTES:\n        paths",
    ),
    Fault(
        "tests/http/test_openapi.py::test_answers_have_the_fields_that_are_described",
        "service/http/openapi.py",
        '{"type": "null", "items"',
        "/api/",
        '{"type": "array", "items"',
    ),
    Fault(
        "tests/http/test_openapi.py::test_bounds_and_required_fields_are_those_of_the_decoder",
        "service/core/push/publications.py",
        "EventType = Annotated[str, Meta(min_length=1, max_length=129)]",
        "129",
        "EventType = Annotated[str, Meta(min_length=1, max_length=128)]",
    ),
    Fault(
        "tests/settings/test_shown.py::test_the_committed_reference_is_what_the_code_says",
        "docs/reference/settings.md",
        "Not from the code.",
        "Not from the code.",
    ),
    Fault(
        "tests/settings/test_sources.py::test_the_environment_is_read_here_and_nowhere_else",
        "service/roles.py",
        "import os\nHOME = os.environ.get('HOME')",
        "service/roles.py",
    ),
    Fault(
        "tests/test_module_map.py::test_the_map_is_up_to_date",
        "service/roles.py",
        '"""Rules of another kind:',
        "make docs",
        '"""Roles:',
    ),
    Fault(
        "tests/test_modules_tested.py::test_every_module_has_a_test_of_its_own_name",
        "service/core/an_untested_one.py",
        '"""Nobody tests it."""',
        "service/core/an_untested_one.py",
    ),
    Fault(
        "tests/test_packaging.py::test_a_lock_file_has_hashes_and_no_addresses",
        "requirements.lock",
        "--index-url a.example.com",
        "--index-url",
    ),
    Fault(
        "tests/test_packaging.py::test_a_lock_file_has_hashes_and_no_addresses",
        "requirements-bench.lock",
        "hashless==1.0",
        "hashless==1.0",
    ),
    Fault(
        "tests/test_packaging.py::test_what_runs_is_what_is_tested",
        "requirements.txt",
        "msgspec==0.0.1",
        "0.0.1",
        "msgspec==",
    ),
    Fault(
        "tests/test_packaging.py::test_the_license_is_the_whole_one_and_the_metadata_invents_no_hosts",
        "pyproject.toml",
        '[project]\nurls = {a = "a.example.com"}',
        "urls",
        "[project]",
    ),
]


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each check, run in a copy with all the faults, says of its failure."""
    copy = tmp_path_factory.mktemp("wrong") / "tree"
    unwanted = (".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "node_modules", ".env")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*unwanted))
    for fault in FAULTS:
        path = copy / fault.file
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        assert fault.old is END or fault.old in text, (
            f"{fault.file} has no {fault.old!r} any more: put in another fault"
        )
        text = f"{text}\n{fault.new}\n" if fault.old is END else text.replace(fault.old, fault.new, 1)
        path.write_text(text, encoding="utf-8")
    report = copy / "report.xml"
    checks = sorted({fault.check for fault in FAULTS})
    # The copy's modules come first, those that are installed after them. -vv: nothing of what a check says is cut off.
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-vv", "-p", "no:cacheprovider", f"--junitxml={report}", *checks],
        cwd=copy,
        env={**os.environ, "PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert report.exists(), done.stdout + done.stderr
    return dict(_failures(report))


def _failures(report: Path) -> Iterator[tuple[str, str]]:
    found: dict[str, str] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        name = f"{case.attrib['classname'].replace('.', '/')}.py::{case.attrib['name'].partition('[')[0]}"
        said = "".join(f"{part.attrib.get('message', '')}\n{part.text}" for part in case if part.tag == "failure")
        found[name] = found.get(name, "") + said
    return iter(found.items())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.check.partition('::')[2]}: {fault.says}")
def test_a_check_sees_what_is_wrong(failures: dict[str, str], fault: Fault) -> None:
    assert fault.check in failures, "there is no such check any more"
    assert fault.says in failures[fault.check], f"it does not see it; it says: {failures[fault.check][-2000:]}"


CHECKS = ("tests/test_docs*.py", "tests/http/test_reference.py", "tests/http/test_openapi.py")
ELSEWHERE = {
    # They have a test of their own that they can fail.
    "test_every_promise_is_shown_by_the_tests_that_it_names", "test_every_row_about_what_happens_names_a_test",
    "test_the_check_can_fail", "test_a_name_that_nobody_has_written_is_found",
    # They run what the page shows against the real thing, as all of the files do that are marked `live`.
    "test_the_page", "test_systemd_understands_the_units", "test_the_receiver_of_the_how_to",
    "test_it_is_a_program_that_ctrl_c_ends_without_a_traceback",
}  # fmt: skip


def test_every_check_of_the_pages_is_here() -> None:
    tried = {fault.check.partition("::")[2] for fault in FAULTS}
    for pattern in CHECKS:
        for path in ROOT.glob(pattern):
            source = path.read_text(encoding="utf-8")
            if "pytestmark" in source and "pytest.mark.live" in source:
                continue
            module = ast.parse(source)
            names = {each.name for each in module.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
            assert {name for name in names if name.startswith("test_")} <= tried | ELSEWHERE, (
                f"{path.name} has a check that was never seen to fail"
            )
