"""The tables that benchmarks print."""

from __future__ import annotations

from rich import box
from rich.table import Table


def figures(first: str, *others: str) -> Table:
    """An empty table: a column of names, then columns of figures."""
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
