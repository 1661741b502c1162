"""From parts of a report to a terminal or to plain lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from io import StringIO

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from automatch.core.mapping import MappingRecord, Verdict
from automatch.core.verdict import headline

WIDTH = 100
"""Columns of a report where no terminal says otherwise."""

STYLES = {"structural": "green", "proved": "green", "guessed": "yellow", "unmapped": "red"}
"""Colours of the statuses, on a terminal."""

VERDICTS: Mapping[Verdict, str] = {
    "proved": "bold green",
    "agrees, in part shown": "green",
    "not run": "yellow",
    "refuted": "bold red",
}
"""Colours of the verdicts, on a terminal."""


def verdict(record: MappingRecord) -> Text:
    """The line that a report begins with, its verdict in colour."""
    line = Text(headline(record))
    line.stylize(VERDICTS[record.verdict], 0, len(record.verdict))
    return line


def heading(text: str) -> Text:
    """A line that names what follows."""
    return Text(f"\n{text}", style="bold")


def indented(text: str, by: int = 2) -> Padding:
    """A line that stands further right, and stays there where it is broken."""
    return Padding(Text(text, overflow="fold"), (0, 0, 0, by), expand=False)


def status(name: str) -> Text:
    """A status in its colour, with what may follow it after a comma."""
    return Text(name, style=STYLES.get(name.partition(",")[0], ""))


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> Table:
    """A table without lines.

    Args:
        columns: The column heads.
        rows: The cells, as many as there are columns.
        right: Columns whose cells stand at the right.
        whole: Columns that are never broken over several lines.
    """
    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(
            column, justify="right" if column in right else "left", no_wrap=column in whole, overflow="fold"
        )
    for row in rows:
        made.add_row(*row)
    return made


def facts(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Names and what there is to say of them, without a head."""
    made = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    made.add_column(no_wrap=True)
    made.add_column(overflow="fold")
    for name, value in rows:
        made.add_row(f"  {name}", value)
    return made


def plain(parts: Iterable[RenderableType], width: int = WIDTH) -> str:
    """The parts as plain lines: no colour, no trailing blanks.

    Example:
        >>> print(plain([table(["key", "n"], [["a.weight", "3"]], right=["n"])]))
        key       n
        a.weight  3
    """
    text = StringIO()
    console = Console(
        file=text, width=width, color_system=None, force_terminal=False, markup=False, emoji=False, highlight=False
    )
    for part in parts:
        console.print(part)
    return "\n".join(line.rstrip() for line in text.getvalue().splitlines())
