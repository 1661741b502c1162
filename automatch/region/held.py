"""Which values of two programs in one run may be held fixed while a part behind them is searched."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import fx

from automatch.core.mapping import MappingRecord
from automatch.prove.divergence import Ran
from automatch.prove.steps import Step
from automatch.prove.values import same_layout, telling
from automatch.trace.program import Program


@dataclass(frozen=True, slots=True, eq=False)
class Half:
    """One of two models in one run.

    Attributes:
        program: Its program, with the weights of this run.
        ran: Its steps.
        alike: The nodes whose value the other side holds as well, in the same order but for whole axes.
        ordered: The nodes whose order the network's stream decides, and no product alone.
    """

    program: Program
    ran: Ran
    alike: frozenset[fx.Node]
    ordered: frozenset[fx.Node]


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """Which weights of both sides a mapping makes of each other, by the names that programs give them.

    Attributes:
        sources: By target weight, the source weights that it is made of.
        targets: By source weight, the target weights that are made of it.
    """

    sources: Mapping[str, frozenset[str]]
    targets: Mapping[str, frozenset[str]]

    def closed(self, names: Collection[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Target weights with all that are made of the same source weights, and these; first the source's."""
        theirs, ours = frozenset(names), frozenset[str]()
        while True:
            ours = ours.union(*(self.sources.get(name, frozenset()) for name in theirs))
            more = theirs.union(*(self.targets.get(name, frozenset()) for name in ours))
            if more == theirs:
                return ours, theirs
            theirs = more


def links(record: MappingRecord) -> Links:
    """Which weights a mapping makes of each other."""
    ours = {key: weight.name for weight in record.source.weights for key in weight.keys}
    theirs = {key: weight.name for weight in record.target.weights for key in weight.keys}
    sources: dict[str, set[str]] = {}
    targets: dict[str, set[str]] = {}
    for entry in record.entries:
        name = theirs.get(entry.target, entry.target)
        for key in entry.sources:
            sources.setdefault(name, set()).add(ours[key])
            targets.setdefault(ours[key], set()).add(name)
    frozen = ({name: frozenset(made) for name, made in found.items()} for found in (sources, targets))
    return Links(*frozen)


def alike(ours: Sequence[Step], theirs: Sequence[Step], close: float) -> tuple[frozenset[fx.Node], frozenset[fx.Node]]:
    """The nodes of both sides that hold the same numbers in the same order, but for whole axes that change places."""
    order = sorted(((_mark(step), step) for step in _whole(ours)), key=lambda row: row[0])
    marks = [mark for mark, _ in order]
    first: set[fx.Node | None] = set()
    second: set[fx.Node | None] = set()
    for step in _whole(theirs):
        count, size = _mark(step)
        start, stop = (bisect(marks, (count, size * (1 + side * 10 * close))) for side in (-1, 1))
        for _, other in order[start:stop]:
            if same_layout(step, other, close):
                second.add(step.node)
                first.add(other.node)
    return frozenset(filter(None, first)), frozenset(filter(None, second))


def _mark(step: Step) -> tuple[int, float]:
    """What two values with the same numbers have in common, whatever their order."""
    return step.value.numel(), float(step.value.nan_to_num(0, 0, 0).square().sum())


def ordered(steps: Sequence[Step]) -> frozenset[fx.Node]:
    """The nodes whose order is the stream's: sums of products, rows looked up, inputs, and what is made of these.

    What one product gives, and its parts, may stand in any order that the next product undoes: queries that are turned
    in halves here and in pairs there are alike, number by number, before they are turned.
    """
    found: list[bool] = []
    products: list[frozenset[int]] = []
    for step in steps:
        made = [products[place] for place in step.operands]
        products.append(frozenset([step.index]) if step.is_product else frozenset[int]().union(*made))
        starts = step.op in ("input", "embedding") or (step.op == "add" and len(set(made)) > 1)
        found.append(starts or (not step.is_product and any(found[place] for place in step.operands)))
    last = {step.node: step.index for step in steps}
    return frozenset(node for node, place in last.items() if node is not None and found[place])


def fixed(half: Half, suspected: Collection[str], anywhere: bool) -> frozenset[fx.Node]:
    """The nodes whose values are held fixed: alike on both sides, and made without a suspected weight.

    Args:
        half: The side.
        suspected: Its weights that are to be searched.
        anywhere: Whether values are held as well whose order no stream decides.
    """
    touched: set[fx.Node] = set()
    for node in half.program.graph.nodes:
        own = half.program.weights.get(node) in suspected if node in half.program.weights else False
        if own or any(item in touched for item in node.all_input_nodes):
            touched.add(node)
    chosen = half.alike if anywhere else half.alike & half.ordered
    return frozenset(node for node in chosen - touched if node.op != "placeholder")


def _whole(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps that are the value of a node, and say something."""
    last = {step.node: step.index for step in steps}
    for step in steps:
        if last[step.node] == step.index and step.value.numel() > 1 and telling(step.value).numel():
            yield step


def is_number(node: fx.Node) -> bool:
    """Whether a node's value is one tensor of floating-point numbers."""
    value = node.meta.get("val")
    return isinstance(value, torch.Tensor) and value.is_floating_point()
