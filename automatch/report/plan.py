"""What a conversion would do: bytes by the way they come about, files, and what is left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from automatch.conversion.plan import Kind, Plan
from automatch.conversion.shards import Shard
from automatch.report.patterns import collapse
from automatch.report.render import facts, heading, indented, table

_WORDS: tuple[tuple[Kind, str], ...] = (
    ("moved", "byte ranges copied from file to file"),
    ("permuted", "entries in another order, in tiles"),
    ("computed", "arithmetic, constants and casts, in tiles"),
)
FILES = 12
"""Files that the plan names."""


def plan_report(plan: Plan, shards: Sequence[Shard], place: str) -> list[RenderableType]:
    """The whole plan, part by part."""
    return [
        heading(f"{plan.catalog.path} -> {place}"),
        _kinds(plan),
        Text(""),
        facts(_facts(plan, shards)),
        *_listed("left out, because the mapping does not determine them", plan.unmapped),
        *_listed("tied, and written under another key", tuple(plan.tied)),
    ]


def size_text(count: float) -> str:
    """A number of bytes as people say it.

    Example:
        >>> size_text(999), size_text(1_500_000), size_text(14_316_000_000)
        ('999 B', '1.50 MB', '14.3 GB')
    """
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.3g} {unit}" if unit == "B" else f"{_three(count)} {unit}"
        count /= 1000
    return f"{_three(count)} TB"


def _three(number: float) -> str:
    """Three digits, zeros at the end kept."""
    return f"{number:.2f}" if number < 9.995 else f"{number:.1f}" if number < 99.95 else f"{number:.0f}"


def _kinds(plan: Plan) -> RenderableType:
    rows = []
    for kind, meaning in _WORDS:
        items = [item for item in plan.items if item.kind == kind]
        rows.append([kind, f"{len(items):,}", size_text(plan.nbytes_of(kind)), meaning])
    rows.append(["total", f"{len(plan.items):,}", size_text(plan.nbytes), ""])
    return table(["tensors", "count", "size", "how"], rows, right=["count", "size"], whole=["tensors", "size"])


def _facts(plan: Plan, shards: Sequence[Shard]) -> Iterator[tuple[str, str]]:
    read = sum(block.nbytes for block in plan.catalog.stored.values())
    yield "reads", f"{len(plan.catalog.files)} files, {size_text(read)} of numbers"
    yield "writes", _files(shards) if shards else "a file a process, and .metadata"
    yield "in all", f"{sum(shard.size for shard in shards) or plan.nbytes:,} bytes"
    for note in plan.notes:
        yield "note", note


def _files(shards: Sequence[Shard]) -> str:
    sizes = [f"{shard.name} ({shard.size:,} bytes)" for shard in shards[:FILES]]
    more = [f"and {len(shards) - FILES} more"] if len(shards) > FILES else []
    return ", ".join(sizes + more)


def _listed(title: str, keys: Sequence[str]) -> Iterator[RenderableType]:
    if not keys:
        return
    yield heading(f"{len(keys)} {title}")
    for pattern in collapse(keys):
        yield indented(pattern.text)
