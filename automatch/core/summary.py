"""A mapping in numbers: in which way each target weight was found, and how much was found at all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Literal, TypeAlias, get_args

from automatch.core.expr import Concat, Expr, Resize, Source, children, source_leaves
from automatch.core.losses import Loss
from automatch.core.mapping import Entry, MappingRecord, Status, Verdict
from automatch.core.verdict import headline

Kind: TypeAlias = Literal[
    "same name",
    "renamed",
    "rearranged",
    "resized",
    "concatenated",
    "conv3d to conv2d",
    "from constants",
    "unmapped",
]
"""What an entry is, in one word; every entry is exactly one of these. See `kind`."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A mapping in numbers, under the verdict on it as a whole. Every target key counts, tied keys each for itself.

    Every entry is of exactly one kind, so the first eight counts add up to `total`; so do the four statuses, of which
    `unmapped` is one.

    Attributes:
        verdict: What is known of the mapping as a whole; see `MappingRecord.verdict`.
        headline: The verdict and how far it goes, in one line.
        same_name: Entries that are the source of the same name, as it is.
        renamed: Entries that are a source of another name, as it is.
        rearranged: Entries made by slices, transposes, reshapes and arithmetic.
        resized: Entries of which a part has another size than in the source.
        concatenated: Entries made of several parts joined, resized or not.
        conv3d_to_conv2d: Entries of four axes made from a source of five.
        from_constants: Entries that read no source (a norm's ones and zeros).
        unmapped: Entries that nothing was found for.
        proved: Entries of that status.
        structural: Entries of that status.
        guessed: Entries of that status.
        elements: Number of scalars in all target weights.
        mapped_elements: Number of scalars in those that are mapped.
        all_concatenated: Entries in which anything is concatenated, whatever else happens to them.
        all_resized: Entries in which anything is resized, whatever else happens to them.
        losses: For every status, and everything that resizing does to a weight, the entries of that status to which it
            happened; only what happened to any.
        unused: Source keys that no entry reads.
        source_total: Number of distinct source weights.
    """

    verdict: Verdict
    headline: str
    same_name: int
    renamed: int
    rearranged: int
    resized: int
    concatenated: int
    conv3d_to_conv2d: int
    from_constants: int
    unmapped: int
    proved: int
    structural: int
    guessed: int
    elements: int
    mapped_elements: int
    all_concatenated: int
    all_resized: int
    losses: tuple[tuple[Status, Loss, int], ...]
    unused: tuple[str, ...]
    source_total: int

    @property
    def rows(self) -> tuple[tuple[Kind, int], ...]:
        """Kinds and their counts, for a table."""
        return (
            ("same name", self.same_name),
            ("renamed", self.renamed),
            ("rearranged", self.rearranged),
            ("resized", self.resized),
            ("concatenated", self.concatenated),
            ("conv3d to conv2d", self.conv3d_to_conv2d),
            ("from constants", self.from_constants),
            ("unmapped", self.unmapped),
        )

    @property
    def statuses(self) -> tuple[tuple[Status, int], ...]:
        """Statuses and their counts, for a table."""
        return (
            ("proved", self.proved),
            ("structural", self.structural),
            ("guessed", self.guessed),
            ("unmapped", self.unmapped),
        )

    @property
    def total(self) -> int:
        """Number of target keys."""
        return sum(count for _, count in self.rows)

    @property
    def mapped(self) -> int:
        """Number of target keys that are made of a source, or of a constant that their role gives."""
        return self.total - self.unmapped

    @property
    def transfer_rate(self) -> float:
        """`mapped / total`; 0 where the target has no weights."""
        return self.mapped / self.total if self.total else 0.0

    @property
    def element_rate(self) -> float:
        """`mapped_elements / elements`; 0 where the target has no scalars."""
        return self.mapped_elements / self.elements if self.elements else 0.0

    def lost(self, status: Status) -> str:
        """What happened to entries of a status, to be written behind their count: ` (138 cut, 2 filled)`."""
        found = ", ".join(f"{count:,} {loss}" for name, loss, count in self.losses if name == status)
        return f" ({found})" if found else ""

    def __str__(self) -> str:
        """The verdict, and a plain table."""
        shares = f"{self.transfer_rate:.1%} of weights, {self.element_rate:.1%} of scalars"
        statuses = ", ".join(f"{count} {status}{self.lost(status)}" for status, count in self.statuses if count)
        lines = [f"{label:<18}{count:>6}" for label, count in (*self.rows, ("total", self.total))]
        lines.append(f"{'transferred':<18}{self.mapped:>6} of {self.total} ({shares})")
        lines.append(f"{'status':<19}{statuses or 'nothing to judge'}")
        lines.append(f"{'all in all':<19}{self.all_concatenated} concatenated, {self.all_resized} resized")
        lines.append(f"{'unused sources':<18}{len(self.unused):>6} of {self.source_total}")
        return "\n".join([self.headline, *lines])


def summarise(record: MappingRecord) -> Summary:
    """Count what a mapping says.

    Example:
        >>> from automatch.core.mapping import Side
        >>> summarise(MappingRecord(Side("a", "names", ()), Side("b", "names", ()), ())).total
        0
    """
    kinds = Counter(kind(entry) for entry in record.entries)
    statuses = Counter(entry.status for entry in record.entries)
    mapped = [entry for entry in record.entries if entry.expr is not None]
    return Summary(
        verdict=record.verdict,
        headline=headline(record),
        same_name=kinds["same name"],
        renamed=kinds["renamed"],
        rearranged=kinds["rearranged"],
        resized=kinds["resized"],
        concatenated=kinds["concatenated"],
        conv3d_to_conv2d=kinds["conv3d to conv2d"],
        from_constants=kinds["from constants"],
        unmapped=kinds["unmapped"],
        proved=statuses["proved"],
        structural=statuses["structural"],
        guessed=statuses["guessed"],
        elements=sum(prod(entry.shape) for entry in record.entries),
        mapped_elements=sum(prod(entry.shape) for entry in mapped),
        all_concatenated=sum(any(map(_concatenates, _walk(entry.expr))) for entry in mapped if entry.expr),
        all_resized=sum(any(isinstance(part, Resize) for part in _walk(entry.expr)) for entry in mapped if entry.expr),
        losses=tuple(_losses(record)),
        unused=record.unused,
        source_total=len(record.source.weights),
    )


def _losses(record: MappingRecord) -> Iterator[tuple[Status, Loss, int]]:
    counts = Counter((entry.status, loss) for entry in record.entries for loss in entry.losses)
    for status in get_args(Status):
        yield from ((status, loss, counts[status, loss]) for loss in get_args(Loss) if counts[status, loss])


def kind(entry: Entry) -> Kind:
    """What an entry is, by the most telling thing about it.

    1. `unmapped`: it has no expression.
    2. `from constants`: its expression reads no source.
    3. `conv3d to conv2d`: a source of five axes makes a target of four.
    4. `concatenated`: several parts are joined.
    5. `resized`: a part has another size than it had in the source.
    6. `rearranged`: slices, transposes, reshapes and arithmetic.
    7. `renamed`, `same name`: the source as it is.
    """
    if entry.expr is None:
        return "unmapped"
    if not entry.sources:
        return "from constants"
    if len(entry.shape) == 4 and any(len(leaf.shape) == 5 for leaf in source_leaves(entry.expr)):
        return "conv3d to conv2d"
    if isinstance(entry.expr, Source):
        return "same name" if entry.expr.key == entry.target else "renamed"
    parts = tuple(_walk(entry.expr))
    if any(map(_concatenates, parts)):
        return "concatenated"
    return "resized" if any(isinstance(part, Resize) for part in parts) else "rearranged"


def _walk(expr: Expr) -> Iterator[Expr]:
    yield expr
    for child in children(expr):
        yield from _walk(child)


def _concatenates(expr: Expr) -> bool:
    return isinstance(expr, Concat) and len(expr.parts) > 1
