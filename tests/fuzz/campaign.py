"""Runs the matcher on many pairs in several processes."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from types import FrameType

import torch

import automatch
from tests.fuzz.judge import Outcome, Verdict, judge
from tests.fuzz.pair import Pair, draw_pair

LIMIT_S = 60


@dataclass(frozen=True, slots=True)
class Result:
    """What came of one pair; an error or a time-out counts as unsure."""

    seed: int
    description: str
    verdict: Verdict
    seconds: float
    error: str = ""

    @property
    def outcome(self) -> Outcome:
        return self.verdict.outcome

    @property
    def line(self) -> str:
        """The result for people to read."""
        verdict = self.verdict
        named = {"proved and wrong": verdict.proved_wrong, "wrong": verdict.wrong, "missing": verdict.missing}
        keys = "; ".join(f"{name}: {', '.join(keys)}" for name, keys in named.items() if keys)
        why = self.error or keys or ("as the reference" if verdict.equal else "as good as the reference")
        head = f"seed {self.seed}: {self.outcome}, gap {verdict.gap:.1e}, {self.seconds:.1f} s"
        return f"{head}\n  {self.description}\n  {why}"


def answer(pair: Pair) -> automatch.Mapping:
    """What the matcher says."""
    return automatch.match(pair.source, pair.target, source_inputs=pair.source_inputs, target_inputs=pair.target_inputs)


def run(seed: int) -> Result:
    """Draw, match and judge the pair of a seed, within the limit."""
    started = time.perf_counter()
    pair = draw_pair(seed)
    before = signal.signal(signal.SIGALRM, _too_late)
    signal.alarm(LIMIT_S)
    try:
        verdict, error = judge(pair, answer(pair)), ""
    except Exception as problem:  # whatever the matcher raises is a result of the campaign, not its end
        verdict, error = Verdict("unsure", False, float("inf")), f"{type(problem).__name__}: {problem}"[:300]
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return Result(seed, pair.description, verdict, time.perf_counter() - started, error)


def run_all(seeds: range, jobs: int) -> Iterator[Result]:
    """The results in the seeds' order."""
    if jobs == 1:
        _one_thread()
        yield from map(run, seeds)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        yield from pool.map(run, seeds, chunksize=4)


def _one_thread() -> None:
    torch.set_num_threads(1)


def _too_late(number: int, frame: FrameType | None) -> None:
    raise TimeoutError(f"no answer in {LIMIT_S} s")
