"""Stand-ins of one draw: the source on fresh weights, the target on what a conversion makes of them.

Fresh weights are drawn again whenever they are asked for, and are the same each time. So no more than one model's
weights are held in float64 at once, and nothing that the source's forward did to its own reaches the target.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

from automatch.apply.fill import compute
from automatch.apply.fit import readable_keys
from automatch.core.expr import Source, source_leaves
from automatch.core.mapping import Entry, MappingRecord
from automatch.errors import MappingError, together
from automatch.prove.precision import Watch
from automatch.prove.room import Room
from automatch.prove.weights import Drawing, state, wide, wide_dtype
from automatch.trace.isolate import stand_in
from automatch.trace.weights import Identity, identity

Convert: TypeAlias = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
"""A source state dict in, target weights out."""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a conversion that is made by itself.

    Attributes:
        reads: The source keys that it needs.
        make: Gives target weights, from a state dict of these.
        owned: Whether what it gives shares memory with nothing but what it was given.
        copy: The target key that is the one source key as it is; empty where something is made of it.
    """

    reads: tuple[str, ...]
    make: Convert
    owned: bool = False
    copy: str = ""


@dataclass(frozen=True, slots=True)
class Conversion:
    """A conversion, frozen.

    Attributes:
        keys: The target keys that it gives.
        parts: What it is made of.
    """

    keys: tuple[str, ...]
    parts: tuple[Part, ...]


def of_record(record: MappingRecord, source: nn.Module) -> Conversion:
    """A mapping as a conversion of which every entry is made by itself.

    Raises:
        MappingError: The source has not the keys and shapes that the mapping was made for; all of them are listed.
    """
    shapes = {key: tuple(tensor.shape) for key, tensor in state(source).items()}
    names = readable_keys(record, shapes, "the state dict")
    filled = [entry for entry in record.entries if entry.expr is not None]
    return Conversion(tuple(entry.target for entry in filled), tuple(_part(entry, names) for entry in filled))


def of_function(convert: Convert, source: nn.Module) -> Conversion:
    """Any function as a conversion: run once, for the keys that it gives."""
    given = {key: wide(tensor.detach()) for key, tensor in state(source).items()}
    return Conversion(tuple(convert(given)), (Part(tuple(given), convert),))


def _part(entry: Entry, names: Mapping[str, str]) -> Part:
    assert entry.expr is not None
    expr = entry.expr
    reads = tuple(dict.fromkeys(names[leaf.key] for leaf in source_leaves(expr)))

    def make(given: dict[str, Tensor]) -> dict[str, Tensor]:
        device = next((tensor.device for tensor in given.values()), torch.device("cpu"))
        return {entry.target: compute(entry, expr, lambda key: given[names[key]], device)}

    return Part(reads, make, owned=True, copy=entry.target if isinstance(expr, Source) else "")


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """A model on other numbers, in float64; the model is left as it is.

    Attributes:
        model: The caller's model.
        tensors: By the identity of each of its parameters and buffers, what takes its place.
        written: The identities of those that a forward was seen to write to.
    """

    model: nn.Module
    tensors: Mapping[Identity, Tensor]
    written: set[Identity] = field(default_factory=set)

    @contextmanager
    def stand_in(self) -> Iterator[nn.Module]:
        """A copy of the model around these numbers, so that nothing that a forward keeps reaches another run.

        Buffers that it wrote to hold in the end what they held before, but for sparse ones, which torch cannot compare.

        Raises:
            TypeError: The model cannot be copied.
        """
        buffers = (tensor for tensor in self.model.buffers() if tensor.layout == torch.strided)
        before = {mark: self.tensors[mark].detach().clone() for mark in map(identity, buffers)}
        with stand_in(self.model, lambda tensor: self.tensors[identity(tensor)]) as copied:
            try:
                yield copied
            finally:
                self._put_back(before)

    def _put_back(self, before: Mapping[Identity, Tensor]) -> None:
        for mark, value in before.items():
            if not torch.equal(self.tensors[mark], value):
                self.written.add(mark)
                with torch.no_grad():
                    self.tensors[mark].copy_(value)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """See which parameters a forward writes to, if any."""
        before = self._sums()
        yield
        self.written.update(mark for mark, value in self._sums().items() if value != before[mark])

    def _sums(self) -> dict[Identity, float]:
        strided = (tensor for tensor in self.model.parameters() if tensor.layout == torch.strided)
        marks = (identity(tensor) for tensor in strided if tensor.is_floating_point() or tensor.is_complex())
        return {mark: float(torch.linalg.vector_norm(self.tensors[mark].detach(), 1)) for mark in marks}

    def state(self) -> dict[str, Tensor]:
        """The numbers of the model's state dict, themselves and not copies."""
        return {key: self.tensors[identity(tensor)] for key, tensor in state(self.model).items()}

    def keys_written(self) -> tuple[str, ...]:
        """The keys of the model's state dict that a forward was seen to write to."""
        return tuple(key for key, tensor in state(self.model).items() if identity(tensor) in self.written)


@contextmanager
def drawn(model: nn.Module, drawing: Drawing) -> Iterator[Numbers]:
    """A model on fresh weights, tied where they were; they are let go in the end."""
    made: dict[Identity, Tensor] = {}
    try:
        yield _whole(model, made, drawing, Room(drawing.tensors.values()))
    finally:
        made.clear()


@dataclass(frozen=True, slots=True)
class Filled:
    """A target on what a conversion makes.

    Attributes:
        numbers: It.
        contradicted: Keys that a tied key overwrote with other values.
        narrow: Whether the conversion made numbers in less than float64.
    """

    numbers: Numbers
    contradicted: tuple[str, ...]
    narrow: bool


@contextmanager
def filled(conversion: Conversion, source: Drawing, target: nn.Module, others: Drawing) -> Iterator[Filled]:
    """The target on what the conversion makes of the source's fresh weights, which is let go in the end.

    Args:
        conversion: The conversion.
        source: The source's fresh weights.
        target: The target, left as it is.
        others: Fresh numbers for what the conversion does not give.

    Raises:
        MappingError: The conversion gives keys or shapes that the target does not have; all of them are listed.
    """
    filling = _Filling(others.tensors, Room(others.tensors.values()))
    reading = _Reading.of(source, conversion)
    for part in conversion.parts:
        if part.copy and filling.draws(part.copy, source, reading.once(part.reads[0])):
            continue
        made = dict(reading.made(part, filling.watch))
        for key in tuple(made):
            filling.put(key, made.pop(key), part.owned)
    contradicted = filling.done()
    try:
        yield Filled(_whole(target, filling.made, others, filling.room), contradicted, filling.watch.narrow)
    finally:
        filling.made.clear()


def _whole(model: nn.Module, made: dict[Identity, Tensor], drawing: Drawing, room: Room) -> Numbers:
    """A model on numbers of which those that are missing are drawn."""
    for tensor in (*model.parameters(), *model.buffers()):
        _once(made, tensor, drawing, room)
    return Numbers(model, made)


def _once(made: dict[Identity, Tensor], tensor: Tensor, drawing: Drawing, room: Room) -> Tensor:
    """The stand-in for a tensor, one for all that are tied to it."""
    mark = identity(tensor)
    if mark not in made:
        made[mark] = _as(tensor, drawing.fresh(tensor, room.like(tensor)))
    return made[mark]


def _as(tensor: Tensor, value: Tensor) -> Tensor:
    return nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value


@dataclass(slots=True)
class _Filling:
    """A target's tensors while they are made."""

    tensors: Mapping[str, Tensor]
    room: Room
    made: dict[Identity, Tensor] = field(default_factory=dict)
    put_by: dict[Identity, list[str]] = field(default_factory=dict)
    contradicted: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)
    watch: Watch = field(default_factory=Watch)

    def draws(self, key: str, source: Drawing, tensor: Tensor | None) -> bool:
        """Draw a weight of the source right where the target has it, if it is needed for nothing else."""
        own = self.tensors.get(key)
        if tensor is None or own is None or own.shape != tensor.shape or identity(own) in self.made:
            return False
        if wide_dtype(own) != wide_dtype(tensor):
            return False
        mark = identity(own)
        self.made[mark] = _as(own, source.fresh(tensor, self.room.like(own)))
        self.put_by[mark] = [key]
        return True

    def put(self, key: str, value: Tensor, owned: bool) -> None:
        """Take a weight; of keys that are tied, the last one's value stands."""
        tensor = self.tensors.get(key)
        if tensor is None or tensor.shape != value.shape:
            there = "not there" if tensor is None else list(tensor.shape)
            self.wrong.append(f"{key}: {list(value.shape)} in the mapping, {there} in the model")
            return
        mark = identity(tensor)
        held = self.made.get(mark)
        fits = value.dtype == wide_dtype(tensor) and value.stride() == tensor.stride()
        if held is None and owned and fits and not self.room.takes(tensor):
            self.made[mark] = _as(tensor, value)
            self.put_by[mark] = [key]
            return
        if held is None:
            held = self.made[mark] = _as(tensor, self.room.like(tensor))
        elif not torch.equal(held, value.to(held)):
            self.contradicted.update(self.put_by[mark])
        self.put_by.setdefault(mark, []).append(key)
        with torch.no_grad():
            held.copy_(value)

    def done(self) -> tuple[str, ...]:
        """Keys whose values another overwrote.

        Raises:
            MappingError: Keys or shapes were given that the target does not have.
        """
        if self.wrong:
            raise together(MappingError, "the mapping was made for another target; match again:", self.wrong)
        return tuple(self.contradicted)


@dataclass(slots=True)
class _Reading:
    """A source's fresh weights, of which those that are needed again are kept."""

    drawing: Drawing
    tensors: Mapping[str, Tensor]
    left: Counter[Identity]
    kept: dict[Identity, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(drawing: Drawing, conversion: Conversion) -> _Reading:
        tensors = drawing.tensors
        return _Reading(
            drawing, tensors, Counter(identity(tensors[key]) for part in conversion.parts for key in part.reads)
        )

    def once(self, key: str) -> Tensor | None:
        """The tensor of a weight that a single part reads; None where several do."""
        tensor = self.tensors[key]
        return tensor if self.left[identity(tensor)] == 1 and identity(tensor) not in self.kept else None

    def made(self, part: Part, watch: Watch) -> Mapping[str, Tensor]:
        """What a part makes."""
        given = {key: self.read(key) for key in part.reads}
        with watch:
            return part.make(given)

    def read(self, key: str) -> Tensor:
        """A weight; a conversion may write to none of them, since each is drawn once a part."""
        mark = identity(self.tensors[key])
        found = self.kept.pop(mark, None)
        if found is None:
            found = self.drawing.fresh(self.tensors[key])
        self.left[mark] -= 1
        if self.left[mark]:
            self.kept[mark] = found
        return found
