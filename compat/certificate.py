"""The certificate: what was tested, against what, when, and what came of it, as JSON, as JUnit's XML and as a page.

Knows results only. Everything that came over the network is escaped: the page has no script and loads nothing.
"""

import json
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Final
from xml.sax.saxutils import escape as xml_escape
from xml.sax.saxutils import quoteattr

from compat.report import Result, closing_line, printable


@dataclass(frozen=True)
class Subject:
    """What was tested: where, in which mode and version, from when on (Unix seconds) and for how long."""

    base_url: str
    mode: str
    environment: str
    version: str
    websocket_url: str
    began: float
    seconds: float
    runtimes: dict[str, str]
    titles: dict[str, str]
    when: str
    complete: bool = True


def _counts(results: Sequence[Result]) -> dict[str, int]:
    return {kind: sum(row.outcome == kind for row in results) for kind in ("passed", "failed", "skipped")}


def as_json(subject: Subject, results: Sequence[Result]) -> str:
    """The results as a JSON document."""
    told = {name: value for name, value in asdict(subject).items() if name != "titles"}
    document = {**told, **_counts(results), "results": [asdict(result) for result in results]}
    return json.dumps(document, indent=2) + "\n"


def as_junit(subject: Subject, results: Sequence[Result]) -> str:
    """The results in the form that continuous integration reads; a client is a class, a scenario a case."""
    counts = _counts(results)
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuite name="compat" tests="{len(results)}" failures="{counts["failed"]}" skipped="{counts["skipped"]}" '
        f'errors="0" time="{subject.seconds:.3f}" hostname={quoteattr(_plain(subject.base_url))}>',
    ]
    for row in results:
        case = f'<testcase classname={quoteattr(row.client)} name={quoteattr(row.scenario)} time="{row.ms / 1000:.3f}"'
        if row.outcome == "passed":
            lines.append(f"{case}/>")
            continue
        tag = "failure" if row.outcome == "failed" else "skipped"
        said = xml_escape("\n".join(map(_plain, row.transcript)))
        lines.append(f"{case}><{tag} message={quoteattr(_plain(row.reason))}>{said}</{tag}></testcase>")
    return "\n".join([*lines, "</testsuite>", ""])


def _plain(text: str) -> str:
    """Text without what XML forbids, or a reader could be fooled by."""
    return printable(text).encode("ascii", "backslashreplace").decode()


_STYLE: Final = """
:root{color-scheme:light dark;--ink:#1b1f24;--paper:#fff;--line:#d5dae0;--good:#1a7f37;--bad:#b42318;--dim:#626c77}
@media (prefers-color-scheme:dark){:root{--ink:#e6eaee;--paper:#14171a;--line:#343b43;--good:#57c27a;--bad:#ff8175;
--dim:#98a2ad}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem auto;max-width:78rem;
padding:0 1rem}h1{font-size:1.5rem;margin-bottom:.2rem}h2{font-size:1.1rem;margin-top:2rem}
.verdict{font-size:1.1rem;font-weight:600}.good{color:var(--good)}.bad{color:var(--bad)}.dim{color:var(--dim)}
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:.86rem}th,td{border-bottom:1px solid
var(--line);padding:.25rem .5rem;text-align:left;white-space:nowrap}td:nth-child(2){white-space:normal;min-width:14rem}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.1rem 1rem;margin:1rem 0}dd{margin:0;overflow-wrap:anywhere}
pre{background:color-mix(in srgb,var(--line) 35%,transparent);padding:.7rem;font-size:.8rem;white-space:pre-wrap;
overflow-wrap:anywhere;border-radius:4px}
@media print{body{margin:0;max-width:none;font-size:10px}details{display:block}}
"""


def as_html(subject: Subject, results: Sequence[Result]) -> str:
    """The results as one page that needs nothing else: what was tested, the table, each failure with its transcript."""
    counts = _counts(results)
    good = counts["failed"] == 0 and subject.complete
    failed = f"{counts['failed']} failed" if subject.complete else "The run was broken off"
    verdict = "Nothing failed" if good else failed
    facts = {
        "Deployment": subject.base_url,
        "WebSocket": subject.websocket_url,
        "Mode": subject.mode,
        "Environment": subject.environment,
        "Gateway's version": subject.version or "not told",
        "Tested": f"{subject.when}, for {subject.seconds:.0f} s",
        "Tested from": f"Python {platform.python_version()} on {platform.system()}",
        "Result": closing_line(results),
    }
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">',
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        f"<title>Compatibility of {_html(subject.base_url)}</title><style>{_STYLE}</style>",
        f'<h1>Compatibility certificate</h1><p class="verdict {"good" if good else "bad"}">{_html(verdict)}</p><dl>',
        *(f"<dt>{name}</dt><dd>{_html(value)}</dd>" for name, value in facts.items()),
        "</dl>",
        *_failures(results),
        *_table(subject, results),
        *_skipped(results),
        "<h2>Client programs</h2><dl>",
        *(f"<dt>{_html(name)}</dt><dd>{_html(said)}</dd>" for name, said in subject.runtimes.items()),
        "</dl></html>\n",
    ]
    return "\n".join(parts)


def _html(text: str) -> str:
    return escape(printable(text))


def _table(subject: Subject, results: Sequence[Result]) -> list[str]:
    columns = list(dict.fromkeys(row.client for row in results))
    cells = {(row.scenario, row.client): row for row in results}
    lines = ['<h2>Every scenario</h2><div class="wide"><table><thead><tr><th>scenario</th><th>what it is</th>']
    lines += [f"<th>{_html(column)}</th>" for column in columns]
    lines.append("</tr></thead><tbody>")
    for name in dict.fromkeys(row.scenario for row in results):
        cell = [_cell(cells.get((name, column))) for column in columns]
        title = _html(subject.titles.get(name, ""))
        lines.append(f"<tr><td>{_html(name)}</td><td>{title}</td>{''.join(cell)}</tr>")
    return [*lines, "</tbody></table></div>"]


def _cell(row: Result | None) -> str:
    if row is None:
        return "<td></td>"
    if row.outcome == "skipped":
        return '<td class="dim">skipped</td>'
    if row.outcome == "failed":
        return '<td class="bad">FAILED</td>'
    return f'<td class="good">passed <span class="dim">{row.ms:.0f} ms</span></td>'


def _failures(results: Sequence[Result]) -> list[str]:
    failed = [row for row in results if row.outcome == "failed"]
    lines = ["<h2>What failed</h2>"] if failed else []
    for row in failed:
        said = "\n".join(_html(line) for line in row.transcript)
        lines.append(
            f"<details open><summary><b>{_html(row.scenario)}</b> by {_html(row.client)}: {_html(row.reason)}</summary>"
            f"<pre>{said}</pre></details>"
        )
    return lines


def _skipped(results: Sequence[Result]) -> list[str]:
    reasons = dict.fromkeys((row.client, row.reason) for row in results if row.outcome == "skipped")
    if not reasons:
        return []
    return [
        "<h2>What was skipped, and why</h2><ul>",
        *(f"<li>{_html(client)}: {_html(reason)}</li>" for client, reason in reasons),
        "</ul>",
    ]
