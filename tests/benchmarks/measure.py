"""One process's worth of measurements, as JSON on standard output; `python -m tests.benchmarks` starts it.

Torch pays for much of itself at the first trace in a process, so the first round is reported apart from the others.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from automatch.align.structure import align_structure
from automatch.canonicalize import to_landmarks
from automatch.synthesize import synthesize
from automatch.trace import trace
from fixtures import wan
from fixtures.building import on_meta
from tests.benchmarks.memory import peak_memory

Times = dict[str, float]


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one process measured.

    Attributes:
        layers: Layers of the teacher.
        tensors: Tensors of the teacher.
        nodes: Nodes of both traced graphs.
        mapped: Target weights that were mapped, of `total`.
        total: Target weights.
        rounds: Seconds per stage, for every round; the first includes what torch does only once.
        peak_mb: High-water mark of this process's resident memory, in MB (10^6 bytes), torch itself included.
        idle_mb: The same before the first model was built.
    """

    layers: int
    tensors: int
    nodes: int
    mapped: int
    total: int
    rounds: list[Times]
    peak_mb: float
    idle_mb: float


def measure(layers: int, repeats: int) -> Measurement:
    """Match the full-size pair, its teacher with so many layers, once cold and `repeats` times warm."""
    idle = peak_memory()
    rounds: list[Times] = []
    for _ in range(repeats + 1):
        times, counts = _round(layers)
        rounds.append(times)
    return Measurement(layers, **counts, rounds=rounds, peak_mb=peak_memory(), idle_mb=idle)


def _round(layers: int) -> tuple[Times, dict[str, int]]:
    times: Times = {}
    with _timed(times, "build"):
        teacher, student = on_meta(lambda: wan.WanTeacher(wan.WanConfig(layers=layers))), wan.student()
    with _timed(times, "trace source"):
        source = trace(teacher, wan.teacher_inputs(), label="source")
    with _timed(times, "trace target"):
        target = trace(student, wan.student_inputs(), label="target")
    with _timed(times, "canonicalize and lower"):
        ours, theirs = to_landmarks(source), to_landmarks(target)
    with _timed(times, "align"):
        alignment = align_structure(ours, theirs)
    with _timed(times, "synthesize"):
        entries = synthesize(alignment, source, target)
    mapped = sum(entry.expr is not None for entry in entries)
    nodes = len(source.nodes) + len(target.nodes)
    return times, {"tensors": len(source.weights), "nodes": nodes, "mapped": mapped, "total": len(entries)}


@contextmanager
def _timed(times: Times, stage: str) -> Iterator[None]:
    # A full collection walks everything that torch holds and takes longer than matching; none is left to fall by chance
    # into a stage that did not fill the heap.
    gc.collect()
    start = time.perf_counter()
    yield
    times[stage] = time.perf_counter() - start


if __name__ == "__main__":
    layers, repeats = map(int, sys.argv[1:])
    print(json.dumps(asdict(measure(layers, repeats))))
