"""Measure the exact match, stage by stage, on pairs of one function, and how it grows with depth and width.

    python -m tests.benchmarks.exact [--pairs 40] [--depths 2,4,8,16,32] [--widths 32,64,128,256,512]
                                      [--rounds 1] [--seed 0]

Three stages stand side by side: recording both models in float64, colouring (from two programs to an expression for
every weight), and proving the mapping. Seconds are those that this process had a core for, with one thread, so that
other processes on the machine count for little. A first pair, which is not shown, pays for what torch does only once.
Garbage is collected before every stage, outside the timing.
"""

from __future__ import annotations

import argparse
import gc
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from statistics import median
from typing import Any, TypeVar

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.exact.discover import Discovery, discover
from automatch.exact.form import Recipe
from automatch.prove import prove
from automatch.trace.inputs import normalise
from automatch.trace.program import Program, record
from fixtures import twins, wan, wan_renamed
from fixtures.building import tokens, with_weights
from fixtures.cases import PAIRS
from fixtures.decoder import Llama, LlamaConfig
from fixtures.twins_dense import FusedDecoder
from tests.benchmarks.tables import figures
from tests.fuzz.pair import draw_pair

STAGES = ("recording", "colouring", "proving")
VOCABULARY = 64
HEAD = 16

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Case:
    """Two models and their inputs, built when they are measured."""

    name: str
    source: Callable[[], nn.Module]
    target: Callable[[], nn.Module]
    source_inputs: Callable[[], Any]
    target_inputs: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds of one pair.

    Attributes:
        name: Which pair.
        numbers: Numbers of the larger side.
        recording: Both models.
        colouring: From programs to expressions, or to the finding that there are none.
        proving: 0 where there was nothing to prove.
        reading: How colouring read the programs in the end; the plain reading is the first that it tries.
        open: Elements that found no partner; more than 0 means that every reading was tried.
        outcome: What the proof said, or that the two are not one function.
    """

    name: str
    numbers: int
    recording: float
    colouring: float
    proving: float
    reading: str
    open: int
    outcome: str


def main() -> None:
    """Measure, and print the tables."""
    options = _options()
    torch.set_num_threads(1)
    console = Console(width=120)
    console.print(
        f"{_processor()}, {os.cpu_count()} cores, Python {platform.python_version()}, torch {version('torch')}; "
        f"one thread, median of {options.rounds}, seed {options.seed}"
    )
    run = _Run(options.rounds, options.seed)
    run.once(_fuzzed(0))
    for title, cases, rows in _tables(options.pairs) if options.pairs else ():
        console.print(*_pairs(title, list(map(run.median, cases)), rows), highlight=False)
    deeper = [(depth, 64, run.median(_decoder(depth, 64))) for depth in _sizes(options.depths)]
    console.print("\nGrowth with depth", _growth(deeper), highlight=False)
    wider = [(2, width, run.median(_decoder(2, width))) for width in _sizes(options.widths)]
    console.print("\nGrowth with width", _growth(wider), highlight=False)


def _tables(pairs: int) -> Iterator[tuple[str, Iterable[Case], bool]]:
    """The tables of pairs: title, what is measured, and whether every pair has a row."""
    yield f"Seeds 0 to {pairs - 1} of the fuzzer", map(_fuzzed, range(pairs)), False
    yield "Fixtures of one function", _own(), True
    yield "Fixtures that are not one function", _other_functions(), False


def _sizes(listed: str) -> list[int]:
    return sorted(int(size) for size in listed.split(",") if size)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.exact", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--pairs", type=int, default=40, help="how many pairs of the fuzzer (default 40; 0 for growth alone)"
    )
    parser.add_argument("--depths", default="2,4,8,16,32", help="layers at width 64 (default 2,4,8,16,32)")
    parser.add_argument("--widths", default="32,64,128,256,512", help="widths at 2 layers (default 32,64,128,256,512)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each pair is measured (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of colouring's values (default 0, which `match` takes)")
    return parser.parse_args()


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _fuzzed(seed: int) -> Case:
    pair = draw_pair(seed)
    return Case(
        f"seed {seed}",
        lambda: pair.source,
        lambda: pair.target,
        lambda: pair.source_inputs,
        lambda: pair.target_inputs,
    )


def _own() -> tuple[Case, ...]:
    """The fixtures whose two sides compute the same function and are small enough to run."""
    return (
        Case("decoder, split and fused", twins.llama_twin, twins.fused_twin, *[twins.small_inputs] * 2),
        Case("the same, 3 layers", twins.llama_middle, twins.fused_middle, *[twins.small_inputs] * 2),
        Case("experts, apart and stacked", twins.mixtral_twin, twins.stacked_twin, *[twins.small_inputs] * 2),
        Case("the same, 3 layers", twins.mixtral_middle, twins.stacked_middle, *[twins.small_inputs] * 2),
        Case("wan, renamed", wan.small_teacher, wan_renamed.small_teacher, *[wan.small_teacher_inputs] * 2),
    )


def _other_functions() -> Iterator[Case]:
    """Teachers and students: what it costs to find out that colouring has nothing to say."""
    for pair in PAIRS:
        inputs = pair.small_source_inputs, pair.small_target_inputs
        yield Case(pair.name, pair.small_source, pair.small_target, *inputs)


def _decoder(layers: int, width: int) -> Case:
    """A decoder with rotary positions and gated feed-forward networks, its projections split here and fused there."""
    heads = width // HEAD
    config = LlamaConfig(
        vocabulary=VOCABULARY, dim=width, ffn_dim=5 * width // 2, heads=heads, kv_heads=heads // 2, layers=layers
    )

    def split() -> nn.Module:
        model = with_weights(lambda: Llama(config), seed=1)
        model.model.inv_freq = Llama(config).model.inv_freq  # the other side computes its table
        return model

    def ids() -> Any:
        return (tokens(2, 11, vocabulary=VOCABULARY),), {}

    return Case(f"{layers} x {width}", split, lambda: with_weights(lambda: FusedDecoder(config), seed=2), ids, ids)


@dataclass(frozen=True, slots=True)
class _Run:
    """How pairs are measured."""

    rounds: int
    seed: int

    def median(self, case: Case) -> Measured:
        """The median of every stage."""
        found = [self.once(case) for _ in range(self.rounds)]
        times = {stage: median(getattr(each, stage) for each in found) for stage in STAGES}
        return replace(found[0], **times)

    def once(self, case: Case) -> Measured:
        models = case.source(), case.target()
        inputs = case.source_inputs(), case.target_inputs()
        numbers = max(sum(tensor.numel() for tensor in model.state_dict().values()) for model in models)

        def both() -> list[Program]:
            return [record(model, normalise(given)) for model, given in zip(models, inputs, strict=True)]

        recording, programs = _timed(both)
        colouring, found = _timed(lambda: discover(programs[0], programs[1], self.seed))
        if isinstance(found, str):
            return Measured(case.name, numbers, recording, colouring, 0.0, "", 0, "not one function")
        mapping = _mapping(found, programs)
        proving, proof = _timed(lambda: prove(mapping, *models, *inputs))
        outcome = proof.record.outcome
        return Measured(case.name, numbers, recording, colouring, proving, _named(found.recipe), found.fault, outcome)


def _named(recipe: Recipe) -> str:
    return ", ".join(name for name in ("flat", "by_use", "effective", "folded") if getattr(recipe, name)) or "plain"


def _timed(run: Callable[[], T]) -> tuple[float, T]:
    gc.collect()
    start = time.process_time()
    made = run()
    return time.process_time() - start, made


def _mapping(found: Discovery, programs: Sequence[Program]) -> MappingRecord:
    """What colouring determined, as a mapping; what it left open (a batch norm's counter) is for structure to say."""
    sides = [Side(name, each.rung, each.inventory) for name, each in zip(("A", "B"), programs, strict=True)]
    entries = [
        Entry(key, weight.shape, weight.dtype, "structural", found.weights[weight.name].expr, Evidence("colours"))
        if weight.name in found.weights
        else Entry(key, weight.shape, weight.dtype, "unmapped", None, Evidence("colours"))
        for weight in programs[1].inventory
        for key in weight.keys
    ]
    return MappingRecord(sides[0], sides[1], tuple(entries))


def _pairs(title: str, found: Sequence[Measured], rows: bool = False) -> tuple[str, Table, str]:
    """A table of one row a pair, or of medians and extremes alone."""
    table = figures("pair", "numbers", "record s", "colour s", "prove s", "colour / record", "prove / record")
    for each in found if rows else ():
        shares = each.colouring / each.recording, each.proving / each.recording
        _add(table, each.name, each.numbers, [getattr(each, stage) for stage in STAGES], shares)
    if rows:
        table.add_section()
    for name, middle in (("median", median), ("largest", max)):
        stages = [float(middle(getattr(each, stage) for each in found)) for stage in STAGES]
        shares = (
            float(middle(each.colouring / each.recording for each in found)),
            float(middle(each.proving / each.recording for each in found)),
        )
        _add(table, name, middle(each.numbers for each in found), stages, shares)
    return f"\n{title}: {len(found)} pairs", table, _in_words(found)


def _add(table: Table, name: str, numbers: float, stages: Sequence[float], shares: Sequence[float]) -> None:
    table.add_row(name, f"{numbers:,.0f}", *map(_seconds, stages), *(f"{share:.2f}" for share in shares))


def _in_words(found: Sequence[Measured]) -> str:
    outcomes, readings = (
        Counter(each.outcome for each in found),
        Counter(each.reading for each in found if each.reading),
    )
    counts = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.most_common())
    read = ", ".join(f"{count} {reading}" for reading, count in readings.most_common())
    cheaper = sum(each.colouring < each.recording for each in found)
    whole = [sum(getattr(each, stage) for each in found) for stage in STAGES]
    shares = ", ".join(f"{stage} {part / sum(whole):.0%}" for stage, part in zip(STAGES, whole, strict=True))
    lines = [f"  outcomes: {counts}", f"  readings: {read}"] if read else [f"  outcomes: {counts}"]
    return "\n".join(
        [*lines, f"  colouring cheaper than recording in {cheaper} of {len(found)}; of all time: {shares}"]
    )


def _growth(found: Sequence[tuple[int, int, Measured]]) -> Table:
    """One row a size; beside each time its factor per doubling of the numbers since the row above."""
    columns = ("width", "numbers", "record s", "x", "colour s", "x", "prove s", "x", "reading", "open", "outcome")
    table = figures("layers", *columns)
    before: Measured | None = None
    for layers, width, each in found:
        cells = [str(width), f"{each.numbers:,}"]
        for stage in STAGES:
            cells += [_seconds(getattr(each, stage)), _doubling(before, each, stage)]
        table.add_row(str(layers), *cells, each.reading, f"{each.open:,}", each.outcome)
        before = each
    return table


def _doubling(before: Measured | None, each: Measured, stage: str) -> str:
    if before is None:
        return ""
    doublings = math.log2(each.numbers / before.numbers)
    growth: float = getattr(each, stage) / getattr(before, stage)
    return f"{growth ** (1 / doublings):.2f}"


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


if __name__ == "__main__":
    main()
