"""The verdict as JUnit's XML, which continuous integration shows: one suite per stage that was judged, one for the run.

Knows results and XML.
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from loadtest._result import Result


def write(result: Result, path: Path) -> None:
    """Write it. Raises OSError."""
    root = ElementTree.Element("testsuites", name="load test")
    judged = [stage for stage in result.stages if stage.kind == "hold" and stage.verdict is not None]
    for stage in [*judged, result.run]:
        suite = ElementTree.SubElement(
            root,
            "testsuite",
            name=stage.name,
            tests=str(len(stage.rows)),
            failures=str(sum(not row.passed for row in stage.rows)) if not stage.invalid else "0",
            errors=str(len(stage.rows)) if stage.invalid else "0",
            time=f"{stage.ended_at - stage.started_at:.3f}",
        )
        for row in stage.rows:
            case = ElementTree.SubElement(suite, "testcase", classname=f"loadtest.{stage.name}", name=row.name)
            if stage.invalid:
                error = ElementTree.SubElement(case, "error", message="the load was the bottleneck")
                error.text = "\n".join(stage.invalid)
            elif not row.passed:
                ElementTree.SubElement(case, "failure", message=f"{row.measured}, should be {row.limit}")
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
