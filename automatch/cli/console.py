"""Where reports go: a terminal gets colours and its own width, everything else plain lines. Warnings go to stderr."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from automatch.errors import CoincidenceWarning, InputsWarning

if TYPE_CHECKING:
    from rich.console import RenderableType

_OWN = (InputsWarning, CoincidenceWarning)


def show(parts: Sequence[RenderableType]) -> None:
    """Print the parts of a report to stdout; without colour or control characters unless it is a terminal."""
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        from automatch.report.render import WIDTH, plain

        print(plain(parts, shutil.get_terminal_size((WIDTH, 24)).columns))
        return
    from rich.console import Console

    console = Console(markup=False, emoji=False, highlight=False)
    for part in parts:
        console.print(part)


def warn(sentence: str) -> None:
    """Print a warning to stderr, in one line."""
    print(f"warning: {' '.join(sentence.split())}", file=sys.stderr)


@contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print warnings of automatch as lines for people when the block ends; other warnings stay as they are."""
    held: list[str] = []
    with warnings.catch_warnings():
        for own in _OWN:
            warnings.simplefilter("always", own)
        others = warnings.showwarning

        def hold(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if issubclass(category, _OWN):
                held.append(str(message))
            else:
                others(message, category, *place, **more)

        warnings.showwarning = hold
        try:
            yield
        finally:
            for sentence in dict.fromkeys(held):
                warn(sentence)
