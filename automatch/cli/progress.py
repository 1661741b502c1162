"""What a long command is doing, on stderr: a spinner on a terminal, plain lines elsewhere."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Stage: TypeAlias = Callable[[str], None]
"""Takes a short sentence on what begins now."""


@contextmanager
def progress(quiet: bool = False) -> Iterator[Stage]:
    """A function that is told every stage as it begins; what it shows ends with the block.

    Args:
        quiet: Show nothing.
    """
    if quiet:
        yield _silent
        return
    shown = _spinner() if sys.stderr.isatty() else _lines()
    with shown as stage:
        yield stage


@contextmanager
def without_torch_logs() -> Iterator[None]:
    """Keep torch from logging, with tracebacks, every attempt to trace that failed; the error tells what matters.

    Whoever sets `TORCH_LOGS` gets them all the same.
    """
    if os.environ.get("TORCH_LOGS"):
        yield
        return
    before = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        yield
    finally:
        logging.disable(before)


def _silent(_sentence: str) -> None:
    return None


@contextmanager
def _lines() -> Iterator[Stage]:
    """Every stage as a line, with the seconds since the start."""
    started = time.perf_counter()

    def stage(sentence: str) -> None:
        print(f"[{time.perf_counter() - started:6.1f} s] {sentence}", file=sys.stderr, flush=True)

    yield stage
    stage("done")


@contextmanager
def _spinner() -> Iterator[Stage]:
    """Every stage as a line with the seconds it took, a spinner before the running one."""
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(finished_text=" "), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    running: list[TaskID] = []
    # Tied to today's stderr and redirecting nothing: tracing redirects stderr too, and the two would feed each other.
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, redirect_stdout=False, redirect_stderr=False) as bars:

        def finish() -> None:
            for task in running:
                bars.update(task, total=1, completed=1)
            running.clear()

        def stage(sentence: str) -> None:
            finish()
            running.append(bars.add_task(sentence, total=None))

        yield stage
        finish()
