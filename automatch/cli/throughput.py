"""How far a conversion is, on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from automatch.conversion.run import Progress
from automatch.report.plan import size_text

EVERY = 5.0
"""Seconds between two plain lines."""


@contextmanager
def throughput(quiet: bool = False) -> Iterator[Progress | None]:
    """A function that is told how many bytes are done, and of how many; what it shows ends with the block."""
    if quiet:
        yield None
    elif sys.stderr.isatty():
        with _bar() as told:
            yield told
    else:
        yield _Lines().told


class _Lines:
    """A line with share, rate and remaining time, once every few seconds and at the end."""

    def __init__(self) -> None:
        self._started = self._last = time.perf_counter()

    def told(self, done: int, total: int) -> None:
        now = time.perf_counter()
        if done < total and now - self._last < EVERY:
            return
        self._last = now
        print(line(done, total, now - self._started), file=sys.stderr, flush=True)


def line(done: int, total: int, seconds: float) -> str:
    """How far it is, in words.

    Example:
        >>> line(500_000_000, 2_000_000_000, 0.5)
        '25%  500 MB of 2.00 GB  1.00 GB/s  2 s left'
    """
    rate = done / max(seconds, 1e-9)
    left = f"{(total - done) / max(rate, 1e-9):.0f} s left" if done < total else f"in {seconds:.1f} s"
    return f"{100 * done // max(total, 1)}%  {size_text(done)} of {size_text(total)}  {size_text(rate)}/s  {left}"


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = (BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(file=sys.stderr)) as bars:
        task = bars.add_task("", total=None)

        def told(done: int, total: int) -> None:
            bars.update(task, completed=done, total=total)

        yield told
