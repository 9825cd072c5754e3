"""Charts: axes with their units, every point within them, names that do not lie on one another."""

import re
from itertools import pairwise

from loadtest._capacity._plots import MARKS, Point, Series, chart, number


def _numbers(drawn: str, pattern: str) -> list[float]:
    return [float(found) for found in re.findall(pattern, drawn)]


def _draw(*lines: Series, log: bool = False, limit: float | None = None) -> str:
    return chart("the title", "connections", "milliseconds", lines, log=log, limit=limit)


def test_axes_have_units_and_numbers() -> None:
    drawn = _draw(Series("serve", [Point(100, 3), Point(1000, 47)], 0))
    assert ">connections<" in drawn
    assert ">milliseconds<" in drawn
    ticks = re.findall(r'class="tick"[^>]*>([^<]+)<', drawn)
    assert ticks == ["0", "10", "20", "30", "40", "50", "100", "1,000"]
    assert 'aria-label="the title"' in drawn


def test_points_lie_within_the_axes_and_grow_upwards() -> None:
    for log in (False, True):
        drawn = _draw(Series("serve", [Point(100, 3), Point(1000, 47), Point(5000, 2000)], 0), log=log)
        across = _numbers(drawn, r'<circle[^>]* cx="([\d.]+)"')
        up = _numbers(drawn, r'<circle[^>]* cy="([\d.]+)"')
        [left, right, base] = _numbers(drawn, r'class="axis" x1="(\d+)"') + _numbers(
            drawn, r'class="axis"[^>]* x2="([\d.]+)"'
        ) + _numbers(drawn, r'class="axis"[^>]* y1="(\d+)"')  # fmt: skip
        assert across == sorted(across)
        assert up == sorted(up, reverse=True)
        assert left == across[0]
        assert across[-1] == right
        assert all(0 < place <= base for place in up)
        assert right - left > 0.7 * 500  # most of the width is the plot's


def test_one_stair_alone_is_drawn() -> None:
    drawn = _draw(Series("serve", [Point(100, 3)], 0), log=True)
    assert "<circle" in drawn
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_zero_is_drawn_where_it_can_be() -> None:
    drawn = _draw(Series("serve", [Point(100, 0), Point(200, 0)], 0))
    assert drawn.count("<circle") == 2
    assert re.findall(r'class="tick"[^>]*>([^<]+)<', drawn)[:3] == ["0", "0.2", "0.4"]
    assert _draw(Series("serve", [Point(100, 0)], 0), log=True) == ""
    assert _draw(Series("serve", [Point(100, 0), Point(200, 5)], 0), log=True).count("<circle") == 1
    assert _draw() == _draw(Series("serve", [], 0)) == ""


def test_names_at_the_same_height_are_moved_apart_and_stay_inside() -> None:
    for height in (1.0, 50.0, 99.0):
        lines = [Series(name, [Point(10, height), Point(20, height)], at) for at, name in enumerate("abcde")]
        drawn = _draw(*lines, Series("top", [Point(10, 100)], 5))
        places = sorted(_numbers(drawn, r'class="name[^>]* y="([\d.]+)"'))
        assert len(places) == 6
        assert all(below - above >= 14.9 for above, below in pairwise(places))
        assert places[0] > 0
        assert places[-1] <= 300


def test_long_names_are_cut_and_escaped() -> None:
    drawn = _draw(Series("<b>&" + "x" * 60, [Point(10, 1)], 0))
    assert "<b>" not in drawn
    assert "&lt;b&gt;&amp;xx" in drawn
    assert "…" in drawn
    assert "x" * 20 not in drawn


def test_each_line_has_a_mark_of_its_own_and_a_doubtful_one_is_hollow() -> None:
    lines = [Series(mark, [Point(10, at + 1), Point(20, at + 1, at == 2)], at) for at, mark in enumerate(MARKS)]
    drawn = _draw(*lines)
    assert len(set(re.findall(r'class="mark (s\d)', drawn))) == len(MARKS)
    assert re.findall(r'class="mark (s\d) doubtful"', drawn) == ["s2"]


def test_a_limit_is_a_line_with_its_value() -> None:
    drawn = _draw(Series("p99", [Point(10, 4), Point(20, 7)], 0), log=True, limit=1000)
    assert ">threshold 1,000<" in drawn
    assert _numbers(drawn, r'<line class="limit"[^>]* y1="([\d.]+)"')[0] >= 14
    assert "limit" not in _draw(Series("p99", [Point(10, 4)], 0))


def test_numbers_as_people_write_them() -> None:
    assert [number(value) for value in (0, 0.25, 5, 12.345, 1000, 12345.6)] == [
        "0",
        "0.25",
        "5",
        "12.3",
        "1,000",
        "12,346",
    ]
