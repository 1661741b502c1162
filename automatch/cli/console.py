"""Where reports go: a terminal gets colours and its own width, everything else plain lines."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType


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
