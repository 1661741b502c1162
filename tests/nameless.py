"""The same traced graphs with everything taken out that a person named, to see whether the answer stays."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace

from automatch.align.structure import align_structure
from automatch.canonicalize import to_landmarks
from automatch.core.expr_rewrite import with_sources
from automatch.core.graph import Graph, Node
from automatch.core.mapping import Entry, MappingRecord
from automatch.mapping import Mapping
from automatch.synthesize import synthesize


@dataclass(frozen=True, slots=True)
class Nameless:
    """A graph without names.

    Attributes:
        graph: Weights are called `w0`, `w1` ... and listed in an order of chance, inputs are numbered, and nodes know
            neither the module nor the line that they come from.
        original: The name that every weight had.
    """

    graph: Graph
    original: dict[str, str]


def without_names(graph: Graph, seed: int) -> Nameless:
    """Take the names out of a graph."""
    chance = random.Random(seed)
    keys = [key for weight in graph.weights for key in weight.keys]
    numbers = chance.sample(range(len(keys)), len(keys))
    new = {key: f"w{number}" for key, number in zip(keys, numbers, strict=True)}
    weights = [
        replace(weight, name=new[weight.name], aliases=tuple(new[alias] for alias in weight.aliases))
        for weight in chance.sample(graph.weights, len(graph.weights))
    ]
    nodes = tuple(_without_names(node, new) for node in graph.nodes)
    return Nameless(Graph(tuple(weights), nodes, graph.outputs, graph.rung), {name: key for key, name in new.items()})


def _without_names(node: Node, new: dict[str, str]) -> Node:
    targets = {"weight": new.get(node.target, ""), "input": f"input{node.index}"}
    return replace(node, target=targets.get(node.op, node.target), module="", line="")


def matched_without_names(source: Graph, target: Graph, named: MappingRecord, seed: int) -> Mapping:
    """Align two graphs without their names; the answer speaks of the names again.

    Args:
        source: The traced source.
        target: The traced target.
        named: The record whose sides, and whose order of entries, the answer is given.
        seed: Decides which weight gets which number.
    """
    ours, theirs = without_names(source, seed), without_names(target, seed + 1)
    alignment = align_structure(to_landmarks(ours.graph), to_landmarks(theirs.graph))
    entries = synthesize(alignment, ours.graph, theirs.graph)
    back = {theirs.original[entry.target]: _with_names(entry, ours, theirs) for entry in entries}
    return Mapping(replace(named, entries=tuple(back[entry.target] for entry in named.entries)))


def _with_names(entry: Entry, ours: Nameless, theirs: Nameless) -> Entry:
    expr = (
        None
        if entry.expr is None
        else with_sources(entry.expr, lambda leaf: replace(leaf, key=ours.original[leaf.key]))
    )
    return replace(entry, target=theirs.original[entry.target], expr=expr)
