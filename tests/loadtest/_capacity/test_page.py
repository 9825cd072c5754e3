"""The page: whole by itself, marks what cannot be believed, and shows hostile texts as text."""

import re

from loadtest._capacity._comparison import Measured
from loadtest._capacity._page import render

from .results import comparison, measured, result, stage

EVIL = '<script>alert(1)</script><img src="http://evil.example/x">"\'&'


def test_it_needs_nothing_else() -> None:
    page = render(comparison(measured("serve", stage(100), stage(500)), measured("split", stage(100), processes=3)))
    assert "<script" not in page
    assert not re.search(r"(src|href|url|@import)\s*[=(]", page)
    assert "http" not in page
    assert page.count("<html") == page.count("</html>") == 1


def test_there_is_a_plot_for_each_figure_and_a_table_beside() -> None:
    page = render(comparison(measured("serve", stage(100), stage(500)), measured("split", stage(100), processes=3)))
    assert page.count("<figure>") == page.count("<svg ") == page.count("</svg>") == 5 + 2 * 2
    assert page.count("<table>") == 1 + 2 + 1
    labels = re.findall(r'aria-label="([^"]+)"', page)
    assert len(set(labels)) == len(labels) == 9
    assert "heartbeat round trip of split by connections" in labels
    assert page.count("threshold 1,000") == 2


def test_hostile_texts_are_text() -> None:
    mode = Measured("serve", EVIL, 1, settings={EVIL: EVIL}, result=result(stage(100), version=EVIL), failed=EVIL)
    mode.result.stages[0].rows.append(type(mode.result.stages[0].rows[0])(EVIL, EVIL, EVIL, False))  # type: ignore[union-attr]  # it was just given
    mode.result.stages[0].invalid.append(EVIL)  # type: ignore[union-attr]  # likewise
    mode.result.options[EVIL] = EVIL  # type: ignore[union-attr]  # likewise
    report = comparison(
        mode, Measured(EVIL, EVIL, 1, failed=EVIL), measured(EVIL, stage(100, "not met", broke=(EVIL,)))
    )
    report.machine.processor = report.machine.system = EVIL
    report.machine.limits[EVIL] = EVIL
    report.advice.sentences.append(EVIL)
    page = render(report)
    assert "<script" not in page
    assert "<img" not in page
    assert "&lt;script&gt;" in page


def test_invalid_stairs_are_hollow_and_say_that_the_load_was_the_bottleneck() -> None:
    sure = render(comparison(measured("serve", stage(100), stage(500))))
    assert 'doubtful"' not in sure
    page = render(comparison(measured("serve", stage(100), stage(500, "invalid", invalid=("its timers were late",)))))
    assert page.count('doubtful"') == 5 + 2 * 3  # one in each comparison, and three percentiles in two plots
    assert "At 500 the load was the bottleneck: its timers were late." in page
    assert "500: the load was the bottleneck" in page


def test_what_was_not_measured_is_named_with_its_reason() -> None:
    page = render(
        comparison(Measured("split", "split", 3, failed="there is no redis-server"), measured("serve", stage(9)))
    )
    assert "there is no redis-server" in page
    assert "not measured" in page
    empty = render(comparison(Measured("split", "split", 3, failed="interrupted")))
    assert "<svg" not in empty
    assert "Nothing was measured, so nothing is advised." in empty


def test_a_gateway_without_metrics_has_no_plots_of_them() -> None:
    page = render(comparison(measured("serve", stage(100, served=False))))
    assert "processor of the gateway by" not in page
    assert "deliveries by connections" in page


def test_lost_and_doubled_stand_beside_what_was_held() -> None:
    page = render(comparison(measured("serve", stage(100, lost=3, doubled=2))))
    assert page.count("3 / 2") == 2


def test_each_node_of_several_has_its_own_row_and_a_slow_one_is_named() -> None:
    split = measured("split", stage(100, nodes={"ws-1": 4.0, "<ws-2>": 612.0}), processes=3)
    page = render(comparison(measured("serve", stage(100)), split))
    assert page.count("Each process by itself") == 1
    assert "<td>ws-1</td><td>100</td><td>5</td><td>0.02</td><td>80</td><td>–</td>" in page
    assert "<td>&lt;ws-2&gt;</td><td>100</td><td>613</td>" in page
    assert (
        "At 100 the node &lt;ws-2&gt; is slower than the others: heartbeat p95 is 612 ms there, and 4 ms at ws-1"
        in page
    )
