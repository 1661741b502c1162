"""What each element of a weight does to the outputs, by one backward pass with random cotangents."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from automatch.core.memory import give_back
from automatch.prove.alike import Flags, Floats, Ints, alike, regrouped
from automatch.prove.outputs import Gap, scale
from automatch.prove.weights import SPREAD

MARGIN = 100.0
"""How many times the measured distance of the outputs an element must move them by."""

FLOOR = 1e-6
"""The least movement, in units of the output's scale, that counts at all.

A weight that no output sees (a key's bias under softmax) still gets a gradient of rounding errors: about 1e-16 of the
terms that cancel, or 1e-8 where a model computes its softmax in float32.
"""

NEARLY = 0.9
"""The share of living elements from which on further draws are worth while."""

TWIN, TWIN_EXACT = 1e-7, 1e-10
"""Relative difference under which two gradients count as equal: where a run has numbers in float32, and where not."""


@dataclass(frozen=True, slots=True)
class Print:
    """What one gradient of a tensor leaves behind: two that are equal everywhere have equal prints.

    Attributes:
        size: Its Euclidean norm.
        mixed: A random sum of its values.
    """

    size: float
    mixed: float

    def equals(self, other: Print) -> bool:
        """Whether two gradients left these prints that were equal but for rounding."""
        close = TWIN * max(self.size, other.size)
        return abs(self.size - other.size) <= close and abs(self.mixed - other.mixed) <= close


@dataclass(slots=True)
class Influence:
    """What the draws so far showed of one target tensor.

    Attributes:
        shape: The tensor's shape.
        bits: Which elements would have shown in some draw, had they been wrong: eight in a number, in order.
        count: How many these are.
        twins: Places of living elements whose gradients had an equal among the others' in all draws, and for each the
            group of equals that it belongs to.
        prints: One for every draw.
        shifts: Whether one number added along the first axis changed nothing in any draw.
        still: Whether the last draw, not the first, told nothing new, and more is missing than chance may hide.
    """

    shape: tuple[int, ...]
    bits: npt.NDArray[np.uint8]
    twins: tuple[Ints, Ints]
    count: int = 0
    prints: tuple[Print, ...] = ()
    shifts: bool = True
    still: bool = False

    @staticmethod
    def none(shape: tuple[int, ...]) -> Influence:
        """Of a tensor of which nothing was seen yet."""
        empty = np.empty(0, np.int64)
        return Influence(shape, np.zeros(-(-math.prod(shape) // 8), np.uint8), (empty, empty))

    @property
    def alive(self) -> Tensor:
        """Which elements would have shown in some draw, had they been wrong; in the tensor's shape."""
        if self.whole:
            return torch.ones((), dtype=torch.bool).expand(self.shape)  # takes no memory
        return torch.from_numpy(self._alive()).view(self.shape)

    @property
    def whole(self) -> bool:
        """Whether all elements are alive."""
        return self.count == math.prod(self.shape)

    @property
    def nearly_whole(self) -> bool:
        """Whether so few elements are missing that chance may have hidden them."""
        return not self.whole and self.count >= NEARLY * math.prod(self.shape)

    def _alive(self) -> Flags:
        flags: Flags = np.unpackbits(self.bits, count=math.prod(self.shape)).view(np.bool_)
        return flags

    @property
    def apart(self) -> Tensor:
        """Which living elements no other element of the same tensor could be exchanged with.

        Equal gradients in every draw mean that only the sum of two elements matters, as under inputs that are constant
        along an axis: then a mapping that permutes them would have passed.
        """
        apart = self.alive.clone(memory_format=torch.contiguous_format)
        apart.view(-1)[torch.from_numpy(self.twins[0])] = False
        return apart

    @property
    def told(self) -> bool:
        """Whether further draws can tell no more of it."""
        return not self.twins[0].size and not self.shifts and self.whole

    def see(self, gradient: Gradient, enough: float, tolerance: float) -> None:
        """Enter one draw: elements that moved the outputs by enough, and those that could have been exchanged."""
        known, groups = self.twins
        shifted = self.shifts
        self.twins = regrouped(gradient.at(known, enough), known, groups, tolerance)
        new = not self.whole and self._seen(gradient, enough, tolerance)
        self.prints = (*self.prints, gradient.print)
        self.shifts = shifted and gradient.shifts
        same = not new and len(self.twins[0]) == len(known) and self.shifts == shifted
        self.still = same and len(self.prints) > 1 and not self.nearly_whole

    def _seen(self, gradient: Gradient, enough: float, tolerance: float) -> bool:
        """Enter elements that no draw before showed; whether there were any."""
        alive = self._alive() if self.count else None  # none yet: one array of their number less
        gradient = gradient if alive is None else gradient.among(alive)
        fresh = gradient.beyond(enough)
        if alive is not None:
            np.greater(fresh, alive if gradient.places is None else alive[gradient.places], out=fresh)
        places, numbers = alike(gradient.values, tolerance, fresh)
        known, groups = self.twins
        offset = int(groups.max()) + 1 if groups.size else 0
        self.twins = np.concatenate([known, gradient.whole(places)]), np.concatenate([groups, numbers + offset])
        if gradient.places is None:
            alive = fresh if alive is None else np.logical_or(alive, fresh, out=alive)
        else:
            alive = self._alive() if alive is None else alive
            alive[gradient.places[fresh]] = True
        new = int(np.count_nonzero(fresh))
        self.bits, self.count = np.packbits(alive), self.count + new
        return new > 0


@dataclass(frozen=True, slots=True, eq=False)
class Gradient:
    """The gradient of one tensor, flat.

    Attributes:
        values: Its values, [N].
        places: Where they are in the flat tensor, in order; None where all of it is there. Elsewhere it is zero.
        shape: The tensor's shape.
    """

    values: Floats
    places: Ints | None
    shape: tuple[int, ...]

    @staticmethod
    def of(found: Tensor | None, shape: tuple[int, ...]) -> Gradient:
        """A dense gradient, one of the rows of a table that were looked up, or none."""
        if found is None:
            return Gradient(np.empty(0), np.empty(0, np.int64), shape)
        if not found.is_sparse:
            return Gradient(found.detach().double().cpu().reshape(-1).numpy(), None, shape)
        found = found.detach().coalesce().cpu()
        rows, width = found.indices()[0].numpy(), int(np.prod(shape[1:]))
        places = (rows[:, None] * width + np.arange(width)).reshape(-1)
        return Gradient(found.values().double().reshape(-1).numpy(), places, shape)

    def among(self, seen: Flags) -> Gradient:
        """Its values where nothing was seen yet, [N] flags, where these are few; all of it elsewhere."""
        if self.places is not None or np.count_nonzero(seen) < (1 - _FEW) * seen.size:
            return self
        starts = range(0, seen.size, _AT_ONCE)
        places = np.concatenate([start + np.flatnonzero(~seen[start : start + _AT_ONCE]) for start in starts])
        return Gradient(self.values[places], places, self.shape)

    def beyond(self, enough: float) -> Flags:
        """Which values move the outputs by enough; a block at a time, to need no other memory of their size."""
        found = np.empty(self.values.size, bool)
        for start in range(0, found.size, _AT_ONCE):
            part = self.values[start : start + _AT_ONCE]
            found[start : start + _AT_ONCE] = np.abs(part) > enough
        return found

    def at(self, places: Ints, enough: float) -> Floats:
        """Values at some places; zero where they are not there, or move the outputs by less than enough."""
        if self.places is None or not self.places.size or not places.size:
            found = self.values[places] if self.places is None else np.zeros(len(places))
        else:
            at = np.minimum(np.searchsorted(self.places, places), len(self.places) - 1)
            found = np.where(self.places[at] == places, self.values[at], 0.0)
        return np.where(np.abs(found) > enough, found, 0.0)

    def whole(self, places: Ints) -> Ints:
        """Places among the values, as places in the flat tensor."""
        return places if self.places is None else self.places[places]

    @property
    def print(self) -> Print:
        """What it leaves behind."""
        size = mixed = 0.0
        for start in range(0, self.values.size, len(_NOISE)):
            part = self.values[start : start + len(_NOISE)]
            at = slice(part.size) if self.places is None else self.places[start : start + part.size] % len(_NOISE)
            size += float((part * part).sum())
            mixed += float((part * _NOISE[at]).sum())
        return Print(math.sqrt(size), mixed)

    @property
    def shifts(self) -> bool:
        """Whether its sum over the first axis is zero, as before a layer norm or inside a softmax."""
        if not self.shape or not self.values.size:
            return False
        rows = self.values.reshape(-1, max(1, int(np.prod(self.shape[1:]))))
        whole, sizes = np.zeros(rows.shape[1]), np.zeros(rows.shape[1])
        step = max(1, len(_NOISE) // rows.shape[1])
        for start in range(0, len(rows), step):
            whole += rows[start : start + step].sum(0)
            sizes += np.abs(rows[start : start + step]).sum(0)
        return bool((np.abs(whole) <= TWIN * sizes).all())


_FEW = 1 / 16
_NOISE = np.random.Generator(np.random.PCG64(0)).standard_normal(65_521)
"""Random factors, repeated along a tensor; their number is prime, so that no row of a matrix meets the same ones."""


def disturb(tensor: Tensor, size: float, alive: Tensor) -> None:
    """Change elements of a tensor in place by random numbers of a size."""
    noise = np.resize(_NOISE, min(tensor.numel(), _AT_ONCE)) * size
    flat = tensor.detach().cpu().contiguous().view(-1)
    values, living = flat.numpy(), None if bool(alive.all()) else alive.contiguous().view(-1).numpy()
    for start in range(0, len(values), _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        part += noise[: len(part)] if living is None else noise[: len(part)] * living[start : start + _AT_ONCE]
    if flat.data_ptr() != tensor.data_ptr():
        with torch.no_grad():
            tensor.copy_(flat.view(tensor.shape))


_AT_ONCE = 40 * 65_521


@dataclass(slots=True)
class Ledger:
    """Influences of all target tensors, by their first key."""

    found: dict[str, Influence] = field(default_factory=dict)

    def add(self, key: str, gradient: Gradient, unit: float, narrow: bool) -> None:
        """Enter one draw of one tensor.

        Args:
            key: Its first key.
            gradient: Its gradient.
            unit: The gradient from which on an element moves the outputs by enough to be seen.
            narrow: Whether numbers in float32 took part.
        """
        if key not in self.found:
            self.found[key] = Influence.none(gradient.shape)
        self.found[key].see(gradient, unit, TWIN if narrow else TWIN_EXACT)

    def promising(self) -> bool:
        """Whether further draws may find the few elements that are missing of some tensor."""
        return any(influence.nearly_whole for influence in self.found.values())

    def reopen(self) -> None:
        """Draws of another kind follow, which may tell more of tensors of which the last ones told nothing."""
        for influence in self.found.values():
            influence.still = False

    def open(self) -> set[str]:
        """Tensors of which further draws may tell more."""
        paired = interchangeable(self)
        return {
            key
            for key, influence in self.found.items()
            if not influence.still and (not influence.told or key in paired)
        }


@torch.enable_grad()
def measure(
    outputs: list[Tensor],
    weights: Mapping[str, Tensor],
    tables: Mapping[str, Tensor],
    generator: torch.Generator,
    enter: Callable[[str, Tensor | None], None],
) -> None:
    """Hand over the gradients of a random combination of all outputs, each in units of its scale, one at a time.

    A single element moves the outputs by its gradient times its change, up to a random factor near 1: in the Euclidean
    norm over all outputs. No two gradients are held at once, but for those of tables.

    Args:
        outputs: The compared outputs, still with their graph; emptied, since logits are large and needed no longer.
        weights: The tensors to differentiate by; leaves.
        tables: Those that rows were looked up in, as the lookups read them.
        generator: Where the cotangents come from.
        enter: Called with the key of every tensor and its gradient; None where no output depends on it.

    Raises:
        RuntimeError: Nothing can be differentiated.
    """
    size = sum(output.numel() for output in outputs)
    root = _combined(outputs, generator)
    outputs.clear()
    give_back(size)  # what the scales took
    left = dict(weights)

    def taken(key: str, tensor: Tensor) -> None:
        gradient, tensor.grad = tensor.grad, None
        del left[key]
        enter(key, gradient)

    hooks = [
        tensor.register_post_accumulate_grad_hook(partial(taken, key))  # type: ignore[no-untyped-call]
        for key, tensor in weights.items()
        if key not in tables
    ]
    try:
        root.backward(inputs=[*weights.values(), *tables.values()])  # type: ignore[no-untyped-call]
    finally:
        for hook in hooks:
            hook.remove()
    for key, tensor in left.items():
        enter(key, _together(tensor, tables[key]) if key in tables else None)


def _combined(outputs: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    """The random combination whose gradients are taken."""
    drawn = [torch.randn(output.shape, generator=generator, dtype=torch.float64) for output in outputs]
    moving = [(noise, output) for noise, output in zip(drawn, outputs, strict=True) if output.requires_grad]
    if not moving:
        raise RuntimeError("no output has a gradient")
    parts = [((noise / scale(output.detach())).to(output.device) * output).sum() for noise, output in moving]
    return torch.stack([part.to(parts[0].device) for part in parts]).sum()


def _together(tensor: Tensor, table: Tensor) -> Tensor | None:
    """The gradient of a table that is read as a whole as well, such as one tied to the last layer; made in place."""
    (whole, tensor.grad), (rows, table.grad) = (tensor.grad, None), (table.grad, None)
    if whole is None or rows is None:
        return rows if whole is None else whole
    rows = rows.coalesce()
    return whole.index_add_(0, rows.indices()[0], rows.values())


def enough(gaps: Sequence[Gap]) -> float:
    """How far an element must move the outputs for a wrong value to have shown, in their scale."""
    return max(FLOOR, MARGIN * math.hypot(*(gap.distance for gap in gaps)))


def disturbance(values: Tensor) -> float:
    """The size of a typical wrong value: the spread of the tensor, or that of any drawn weight where it has none."""
    spread = float(values.detach().std()) if values.numel() > 1 else 0.0
    return spread if spread > 1e-9 else SPREAD * max(1.0, float(values.detach().abs().max()) if values.numel() else 1.0)


def interchangeable(ledger: Ledger) -> dict[str, tuple[str, ...]]:
    """For each tensor those others of its shape that have the same gradient everywhere: only their sum matters."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for key, part in ledger.found.items():
        if part.count:
            groups.setdefault((part.shape, f"{part.prints[0].size:.5e}"), []).append(key)
    found: dict[str, tuple[str, ...]] = {}
    for keys in groups.values():
        for key in keys:
            others = tuple(other for other in keys if other != key and _same(ledger.found[key], ledger.found[other]))
            found |= {key: others} if others else {}
    return found


def _same(one: Influence, other: Influence) -> bool:
    return all(first.equals(second) for first, second in zip(one.prints, other.prints, strict=False))
