"""The gateway's own account of itself over a run: what `/metrics` of its processes said, second by second.

Knows Prometheus' text form and a few names; never who asks.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Final

import msgspec

from loadtest._result import Server, ServerProcess

_LINE: Final = re.compile(r"^portico_([a-z_]+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)
_NODE: Final = re.compile(r'^portico_registered\{[^}]*?\bnode="([^"]*)"', re.MULTILINE)
_ENOUGH: Final = 100


class Sample(msgspec.Struct):
    """One answer of one process, or None in its place where none came.

    Attributes:
        cpu: seconds of processor time so far.
        memory: resident bytes.
        node: the process's name, where it tells it.
    """

    at: float
    cpu: float
    memory: int
    connections: int
    loop_lag: float | None
    node: str | None = None


def read_metrics(text: str, at: float) -> Sample | None:
    """What a page of metrics says; None where it is none of a gateway's."""
    sums: dict[str, float] = {}
    for name, value in _LINE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        if math.isfinite(number):
            sums[name] = sums.get(name, 0.0) + number
    if "process_cpu_seconds_total" not in sums or "process_memory_bytes" not in sums:
        return None
    return Sample(
        at,
        sums["process_cpu_seconds_total"],
        int(sums["process_memory_bytes"]),
        int(sums.get("connections", 0)),
        sums.get("loop_lag_seconds"),
        node[1] if (node := _NODE.search(text)) else None,
    )


@dataclass
class ServerLog:
    """What each process said when: by its name, or else by the address at which it was asked."""

    samples: dict[str, list[Sample]] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    missed: dict[str, list[float]] = field(default_factory=dict)

    def add(self, url: str, at: float, sample: Sample | None) -> None:
        """A process was asked."""
        if sample is None:
            self.missed.setdefault(url, []).append(at)
        else:
            name = sample.node or url
            self.urls[name] = url
            self.samples.setdefault(name, []).append(sample)

    def latest(self) -> tuple[float, int] | None:
        """Processor share and memory, over all processes, in the last second."""
        if not self.samples:
            return None
        share = 0.0
        for samples in self.samples.values():
            if len(samples) > 1:
                before, now = samples[-2:]
                share += max(0.0, now.cpu - before.cpu) / max(1e-3, now.at - before.at)
        return share, sum(samples[-1].memory for samples in self.samples.values())

    def between(self, start: float, end: float) -> Server | None:
        """What they said in a span of time; None if they said nothing."""
        found, first_memory, first_connections, last_connections = [], 0, 0, 0
        for name, samples in self.samples.items():
            # From the last one before it, as a short span may have one only, or none.
            earlier = [sample for sample in samples if sample.at < start][-1:]
            during = earlier + [sample for sample in samples if start <= sample.at <= end]
            if not during:
                continue
            first, last = during[0], during[-1]
            lags = [sample.loop_lag for sample in during if sample.loop_lag is not None]
            first_memory += samples[0].memory
            first_connections += samples[0].connections
            last_connections += last.connections
            found.append(
                ServerProcess(
                    url=(url := self.urls[name]),
                    node=last.node,
                    # A process that was restarted counts anew.
                    cpu_share=max(0.0, last.cpu - first.cpu) / (last.at - first.at) if last.at > first.at else 0.0,
                    memory_max=max(sample.memory for sample in during),
                    memory_end=last.memory,
                    connections=max(sample.connections for sample in during),
                    loop_lag_max_ms=max(lags) * 1000 if lags else None,
                    missed=sum(start <= at <= end for at in self.missed.get(url, ())),
                )
            )
        if not found:
            return None
        more = last_connections - first_connections
        grown = sum(process.memory_end for process in found) - first_memory
        return Server(
            processes=found,
            cpu_share=sum(process.cpu_share for process in found),
            memory_max=sum(process.memory_max for process in found),
            memory_per_connection=max(0, grown) / more if more >= _ENOUGH else None,
        )
