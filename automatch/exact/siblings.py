"""Which leaves belong together: a bias and the factor of the same contraction, a norm's scale and shift."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from automatch.exact.form import Form
from automatch.exact.ops import CONTRACTIONS
from automatch.exact.reading import as_read
from automatch.exact.tolerance import Ints
from automatch.trace.program import name_of

_STEPS = 6  # how far above its reader a leaf's company is looked for


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """A leaf as an operator reads it.

    Attributes:
        leaf: The leaf's number.
        index: Flat indices into the leaf, in the shape of the operand.
    """

    leaf: int
    index: Ints


@dataclass(frozen=True, slots=True, eq=False)
class Biased:
    """A contraction with a bias, both of them leaves.

    Attributes:
        rows: By output channel, the flat indices of the factor that make it.
        factor: The factor's leaf.
        bias: By output channel, the flat index into the bias.
        of: The bias's leaf.
    """

    factor: int
    rows: Ints
    of: int
    bias: Ints


def siblings(form: Form) -> tuple[frozenset[int], ...]:
    """By leaf, the leaves that the same operator reads, or else the operators that made its other operand."""
    by_reader: dict[fx.Node, set[int]] = {}
    for number, readers in enumerate(form.readers):
        for reader, _ in readers:
            by_reader.setdefault(reader, set()).add(number)
    found = []
    for number, readers in enumerate(form.readers):
        company: set[int] = set()
        for reader, _ in readers:
            company |= by_reader[reader] - {number} or _above(reader, form, by_reader)
        found.append(frozenset(company - {number}))
    return tuple(found)


def _above(reader: fx.Node, form: Form, by_reader: dict[fx.Node, set[int]]) -> set[int]:
    front = [item for item in reader.all_input_nodes if item not in form.held]
    for _ in range(_STEPS):
        company = {leaf for node in front for leaf in by_reader.get(node, ())}
        if company:
            return company
        front = [item for node in front for item in node.all_input_nodes if item not in form.held]
    return set()


def biased_contractions(form: Form) -> tuple[Biased, ...]:
    """Every contraction whose factor and bias are leaves; the bias may be added by an operator of its own."""
    readings = _readings(form)
    found = []
    for node in form.program.graph.nodes:
        if name_of(node) not in CONTRACTIONS:
            continue
        rows = _rows(node, readings)
        bias = _bias(node, readings)
        if rows is not None and bias is not None and len(rows.index) == len(bias.index):
            found.append(Biased(rows.leaf, rows.index, bias.leaf, bias.index))
    return tuple(found)


def _readings(form: Form) -> dict[tuple[fx.Node, int], Reading]:
    found: dict[tuple[fx.Node, int], Reading] = {}
    for number, (leaf, readers) in enumerate(zip(form.leaves, form.readers, strict=True)):
        for reader, place in readers:
            operands = reader.all_input_nodes
            index = as_read(form, leaf, operands[place]) if place < len(operands) else None
            if index is not None:
                found[reader, place] = Reading(number, index)
    return found


def _rows(node: fx.Node, readings: dict[tuple[fx.Node, int], Reading]) -> Reading | None:
    name = name_of(node)
    place = {"addmm": 2}.get(name, 1)
    reading = readings.get((node, place))
    if reading is None:
        return None
    index = reading.index
    if name == "einsum":
        return _einsum_rows(str(node.args[0]), reading)
    if name in ("addmm", "matmul", "mm") and index.ndim == 2:
        index = index.T
    elif name.startswith("conv_transpose"):
        index = index.swapaxes(0, 1)
    elif name != "linear" and not name.startswith("conv"):
        return None
    return Reading(reading.leaf, index.reshape(index.shape[0], -1))


def _einsum_rows(equation: str, reading: Reading) -> Reading | None:
    """The letters that a weight shares with the result are its output channels, in the result's order."""
    left, _, right = equation.replace(" ", "").partition("->")
    terms = left.split(",")
    if len(terms) != 2 or len(terms[1]) != reading.index.ndim:
        return None
    kept = [terms[1].index(letter) for letter in right if letter in terms[1]]
    rest = [axis for axis in range(reading.index.ndim) if axis not in kept]
    rows = reading.index.transpose([*kept, *rest])
    count = 1
    for size in rows.shape[: len(kept)]:
        count *= size
    return Reading(reading.leaf, rows.reshape(count, -1))


def _bias(node: fx.Node, readings: dict[tuple[fx.Node, int], Reading]) -> Reading | None:
    own = readings.get((node, 0 if name_of(node) == "addmm" else 2))
    if own is not None:
        return Reading(own.leaf, own.index.reshape(-1))
    for user in node.users:
        added = [readings[user, place] for place in (0, 1) if (user, place) in readings]
        if name_of(user) == "add" and added:
            return Reading(added[0].leaf, added[0].index.reshape(-1))
    return None
