"""What a conversion will do, before a byte is read: every tensor to write, and how it comes about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from automatch.apply.fit import Held, fit
from automatch.checkpoint.catalog import Catalog
from automatch.checkpoint.config import quantised_by
from automatch.checkpoint.dtypes import BY_NAME, count_bytes
from automatch.conversion.naming import renamed
from automatch.conversion.runs import find_runs
from automatch.conversion.sameness import same_values
from automatch.core.expr import Expr, source_leaves
from automatch.core.expr_rewrite import only_moves, with_sources
from automatch.core.graph import Shape
from automatch.core.mapping import Entry, MappingRecord
from automatch.core.mapping_json import MADE_BY, digest, dumps
from automatch.errors import MappingError, together

Kind: TypeAlias = Literal["moved", "permuted", "computed"]
"""How a tensor is made: byte ranges copied, entries in another order, or numbers computed (arithmetic, casts)."""

Tied: TypeAlias = Literal["each", "once"]
"""Whether tensors that the target ties are written under every key, or under the first alone."""

MAPPING_FILE = "model.mapping.json"
"""What the mapping is called that is written beside a distributed checkpoint."""

NAMED = 5
"""How many unused tensors a note names; `automatch show` lists them."""

SHORTEST = 16 * 1024
"""Bytes that a run must have on average to be copied by the kernel; shorter ones cost more in calls than in copying."""


@dataclass(frozen=True, slots=True)
class Item:
    """One tensor to write.

    Attributes:
        key: The target's key.
        shape: Its shape.
        dtype: The dtype it is written in, as torch prints it, without the prefix.
        expr: What it is made of, over the blocks of the catalog.
        kind: How it is made.
    """

    key: str
    shape: Shape
    dtype: str
    expr: Expr
    kind: Kind

    @property
    def nbytes(self) -> int:
        """How many bytes it takes."""
        return count_bytes(self.dtype, self.shape)


@dataclass(frozen=True, slots=True)
class Plan:
    """A conversion before it runs.

    Attributes:
        catalog: The checkpoint.
        items: The tensors to write, in the target's order.
        unmapped: The target's keys that the mapping does not determine.
        tied: Keys that are not written because they are tied to one that is, which is the value.
        notes: What a user should know.
        unread: Tensors of the checkpoint that nothing reads, though the mapping never knew them.
        checksums: Whether bytes are held against the checksums that the checkpoint has.
    """

    catalog: Catalog
    items: tuple[Item, ...]
    unmapped: tuple[str, ...]
    tied: Mapping[str, str]
    notes: tuple[str, ...]
    unread: tuple[str, ...] = ()
    checksums: bool = True

    @property
    def nbytes(self) -> int:
        """How many bytes of numbers are written."""
        return sum(item.nbytes for item in self.items)

    def nbytes_of(self, kind: Kind) -> int:
        """How many of them come about in one way."""
        return sum(item.nbytes for item in self.items if item.kind == kind)


def make_plan(
    record: MappingRecord,
    catalog: Catalog,
    *,
    dtype: str | None = None,
    tied: Tied = "each",
    allow_unread: Sequence[str] | None = (),
    checksums: bool = True,
) -> Plan:
    """Plan the conversion of a checkpoint.

    Args:
        record: The mapping.
        catalog: The checkpoint.
        dtype: What floating tensors are cast to, as torch names it; None keeps the checkpoint's.
        tied: How tensors that the target ties are written.
        allow_unread: Patterns of tensors that may be left out though the mapping never knew them; None allows all.
        checksums: Whether bytes are held against the checksums that the checkpoint has.

    Raises:
        MappingError: The mapping determines nothing, the checkpoint does not fit it (`automatch.apply.fit`; all
            findings are listed), or a dtype is unknown.
    """
    if all(entry.expr is None for entry in record.entries):
        raise MappingError("the mapping determines no weight of the target; there is nothing to write")
    _refuse_dtype(dtype)
    _refuse_converted(record, catalog)
    needed = {key for entry in record.entries for key in entry.sources}
    own, renaming = renamed(catalog.views, needed)
    held = {key: Held(weight.shape, weight.dtype) for weight in catalog.weights for key in weight.keys}
    found = fit(
        record,
        {key: held[name] for key, name in own.items()},
        str(catalog.path),
        same=lambda one, other: same_values(catalog, own[one], own[other]),
        allow_unread=allow_unread,
        own=own.__getitem__,
        quantised=quantised_by(catalog.path),
    )
    views = {key: catalog.views[own[name]] for key, name in found.names.items()}
    skipped = _tied_keys(record) if tied == "once" else {}
    mapped = [entry for entry in record.entries if entry.expr is not None and entry.target not in skipped]
    items = _items(mapped, views, catalog, dtype)
    unmapped = tuple(entry.target for entry in record.entries if entry.expr is None)
    left = [f"left out, since nothing reads it: {key}" for key in found.unread]
    notes = (*catalog.notes, *([renaming] if renaming else []), *left, *_unused(record, own))
    return Plan(catalog, items, unmapped, skipped, notes, found.unread, checksums)


def _unused(record: MappingRecord, held: Mapping[str, str]) -> Iterator[str]:
    """What is there and was unused already when the mapping was made: nothing is dropped without a word."""
    found = [key for key in record.unused if key in held]
    if found:
        shown = ", ".join(found[:NAMED]) + (f" and {len(found) - NAMED} more" if len(found) > NAMED else "")
        yield f"left out, as when the mapping was made: {shown}"


def _items(entries: list[Entry], views: Mapping[str, Expr], catalog: Catalog, dtype: str | None) -> tuple[Item, ...]:
    items: list[Item] = []
    problems: list[str] = []
    for entry in entries:
        try:
            items.append(_item(entry, views, catalog, dtype))
        except MappingError as error:
            problems.append(str(error))
    if problems:
        raise together(MappingError, f"{len(problems)} of the weights cannot be written:", problems)
    return tuple(items)


def _item(entry: Entry, views: Mapping[str, Expr], catalog: Catalog, dtype: str | None) -> Item:
    assert entry.expr is not None
    expr = with_sources(entry.expr, lambda leaf: views[leaf.key])
    found = _dtype(entry, expr, catalog)
    written = dtype if dtype is not None and _floats(found) else found
    return Item(entry.target, entry.shape, written, expr, _kind(expr, written, catalog))


def _kind(expr: Expr, written: str, catalog: Catalog) -> Kind:
    # Sources of several dtypes are promoted, which is a cast of some of them.
    if not only_moves(expr) or any(catalog.stored[leaf.key].dtype != written for leaf in source_leaves(expr)):
        return "computed"
    return "moved" if find_runs(expr, SHORTEST // BY_NAME[written].size) is not None else "permuted"


def _dtype(entry: Entry, expr: Expr, catalog: Catalog) -> str:
    """The dtype of what an expression gives: its sources', promoted as torch does where they differ."""
    dtypes = {leaf.key: catalog.stored[leaf.key].dtype for leaf in source_leaves(expr)}
    kinds = set(dtypes.values())
    if len(kinds) == 1 and only_moves(expr):
        return kinds.pop()
    from automatch.conversion.boxes import result_dtype_name

    name = result_dtype_name(expr, dtypes, entry)
    if name not in BY_NAME:
        raise MappingError(f"{entry.target}: dtype {name!r} cannot be written to a safetensors file")
    return name


def _refuse_converted(record: MappingRecord, catalog: Catalog) -> None:
    beside = catalog.path / MAPPING_FILE  # a distributed checkpoint has no metadata, and the mapping beside
    ours = MADE_BY in catalog.metadata and catalog.metadata[MADE_BY] == digest(record)
    if ours or (beside.is_file() and beside.read_bytes() == dumps(record).encode()):
        raise MappingError(
            f"{catalog.path} was made by this mapping already; applied to what it made, it would make something else.\n"
            f"Next: convert the checkpoint of {record.source.name or 'the source'}, or use this file as it is."
        )


def _refuse_dtype(dtype: str | None) -> None:
    if dtype is not None and not _floats(dtype):
        known = ", ".join(name for name in BY_NAME if _floats(name))
        raise MappingError(f"dtype {dtype!r} is none that floating weights can be cast to; use one of {known}")


def _floats(dtype: str) -> bool:
    """Whether torch can cast to and from this dtype as floating numbers."""
    return dtype in BY_NAME and dtype.startswith(("float", "bfloat")) and BY_NAME[dtype].packed == (1, 1)


def _tied_keys(record: MappingRecord) -> dict[str, str]:
    """The keys that the target ties to another key, which is the value and comes first in its state dict."""
    exprs = {entry.target: entry.expr for entry in record.entries if entry.expr is not None}
    return {
        alias: weight.name
        for weight in record.target.weights
        if weight.name in exprs
        for alias in weight.aliases
        if exprs.get(alias) == exprs[weight.name]
    }
