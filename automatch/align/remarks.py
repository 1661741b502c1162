"""What a reader of an alignment should know: operators nobody understood, and names that tell another story."""

from __future__ import annotations

import re

from automatch.align.use_graph import Chain, UseGraph


def remarks(source: UseGraph, target: UseGraph) -> tuple[str, ...]:
    """Sentences on both sides: unknown operators, and chains whose blocks disagree with the module tree."""
    said = []
    for side, graph in (("source", source), ("target", target)):
        if graph.lowered.unknown:
            said.append(f"{side}: operators that no rule understands: {', '.join(graph.lowered.unknown)}")
        said += [f"{side}: {remark}" for chain in graph.chains if (remark := _disagreement(graph, chain))]
    return tuple(said)


def chain_name(graph: UseGraph, chain: Chain) -> str:
    """What a chain's layers are called (`"blocks.{i}"`), or how many there are if their names share nothing."""
    names = [prefix for number in range(chain.depth) if (prefix := _module(graph, chain, number))]
    patterns = {re.sub(r"\d+$", "{i}", name) for name in names}
    if len(names) == chain.depth and len(patterns) == 1 and (chain.depth == 1 or len(set(names)) == chain.depth):
        return patterns.pop()
    return f"{chain.depth} repeated blocks"


def _weights(graph: UseGraph, chain: Chain, number: int) -> list[str]:
    return [use.weight for index in chain.block(number) for use in graph.landmarks[index].uses]


def _module(graph: UseGraph, chain: Chain, number: int) -> str:
    """The longest common module of a block's weights, up to and including its last number."""
    parts = [name.split(".")[:-1] for name in _weights(graph, chain, number)]
    if not parts:
        return ""
    common: list[str] = []
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        common.append(column[0])
    while common and not common[-1].isdigit():
        common.pop()
    return ".".join(common)


def _disagreement(graph: UseGraph, chain: Chain) -> str:
    """Where names number the layers, a block that holds weights of two numbered layers."""
    numbered = [_module(graph, chain, number) for number in range(chain.depth)]
    if not any(numbered) or all(numbered):
        return ""
    mixed = [number for number, name in enumerate(numbered) if not name]
    return f"blocks {mixed} of a chain of {chain.depth} hold weights of more than one numbered module"
