"""Every promise of docs/discussion/promises.md names tests that show it: they are there. So are the metrics."""

import re

from service.app import Node
from service.http.metrics import metrics_answer
from service.settings import Settings
from tests.gateways import ROOT

PAGE = (ROOT / "docs/discussion/promises.md").read_text()


def test_the_tests_that_it_names_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)`:\s+((?:`test_\w+`(?:, )?)+)", PAGE)
    assert len(named) >= 12
    for file, tests in named:
        (path,) = ROOT.glob(f"tests/**/{file}")
        text = path.read_text()
        for test in re.findall(r"`(test_\w+)`", tests):
            assert f"def {test}(" in text


def test_the_metrics_that_it_names_exist() -> None:
    node = Node(Settings.load({"REDIS_URL": "redis://127.0.0.1:1"}))
    text = metrics_answer(node.parts.counters, node.parts.connections(), node.parts.live()).body.decode()
    rows = PAGE.partition("## The bounds")[2].splitlines()
    named = [name for row in rows for name in re.findall(r"`([a-z_]+)`", row.rpartition("|")[0].rpartition("|")[2])]
    assert len(named) >= 10
    for name in named:
        if name != "portico_…":
            assert f"\nportico_{name} " in text, name
