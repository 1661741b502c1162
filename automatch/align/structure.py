"""Align two graphs by structure: who plays whose role, with depth, width and parts of the network allowed to differ.

The order of events: pair inputs, pair chains of repeated blocks, pair the layers of each chain by policy, pair
landmarks inside one representative pair of blocks and lift the result to all layers, pair what lies outside. Weights
follow their landmarks by role.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product

from automatch.align.anchors import AnchorFinder
from automatch.align.candidates import Candidate, Distances, candidates, distances, is_unsplit
from automatch.align.caution import with_caution
from automatch.align.chain_pairs import pair_chains
from automatch.align.chains import with_chains
from automatch.align.claims import to_assignments
from automatch.align.companions import companions
from automatch.align.costs import WidthMap, pair
from automatch.align.indexed import with_indexed
from automatch.align.inputs import pair_inputs, paired_widths
from automatch.align.irregular import ALIKE
from automatch.align.policy import LayerPolicy, chain_policies, pair_layers, policy_name
from automatch.align.remarks import chain_name, remarks
from automatch.align.roles import RolePair, role_pair
from automatch.align.single_blocks import with_single_blocks
from automatch.align.stream import streams
from automatch.align.use_graph import Chain, UseGraph
from automatch.core.alignment import Alignment
from automatch.core.graph import Graph
from automatch.core.landmarks import LandmarkGraph
from automatch.core.mapping import LayerPairing
from automatch.errors import PolicyError

_REFUSAL_INSIDE = 5.0
_REFUSAL_OUTSIDE = 6.0
_STREAM_VOTES = 10


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides of an alignment, ready to be compared.

    Attributes:
        source: The source's walker.
        target: The target's walker.
        distances: Distances on both sides.
        words: Words of the weights' names on both sides.
        widths: Which source width became which target width, as far as known.
    """

    source: AnchorFinder
    target: AnchorFinder
    distances: tuple[Distances, Distances]
    words: tuple[dict[str, frozenset[str]], dict[str, frozenset[str]]]
    widths: WidthMap

    @property
    def graphs(self) -> tuple[UseGraph, UseGraph]:
        """The use graphs."""
        return self.source.graph, self.target.graph


def align_structure(source: LandmarkGraph, target: LandmarkGraph, layers: LayerPolicy = "uniform") -> Alignment:
    """Align two lowered graphs.

    Args:
        source: Where weights come from.
        target: What they are for.
        layers: Which source layer a target layer takes.

    Raises:
        PolicyError: An explicit list of layers does not fit.
    """
    found: list[Alignment] = []
    refused: PolicyError | None = None
    for reading in _readings(source, target):
        try:
            found.append(_align(*reading, layers))
        except PolicyError as error:  # another reading may have a chain that the list fits
            refused = refused or error
    if not found and refused is not None:
        raise refused
    chosen = with_indexed(min(found, key=_doubt), UseGraph(source), UseGraph(target))
    return with_caution(chosen, source.graph, target.graph)


def _readings(source: LandmarkGraph, target: LandmarkGraph) -> Iterator[tuple[UseGraph, UseGraph]]:
    """Ways to cut both sides into blocks, the usual one first: which ends are alike, which blocks stand alone."""
    graphs = UseGraph(source), UseGraph(target)
    chained = {alike: tuple(with_chains(graph, alike) for graph in graphs) for alike in ALIKE}
    seen: list[tuple[tuple[Chain, ...], tuple[Chain, ...]]] = []
    for crossing, thorough, alike in product((1, 2), (False, True), ALIKE):
        ours, theirs = chained[alike]
        ours, theirs = (
            with_single_blocks(ours, theirs, thorough, crossing),
            with_single_blocks(theirs, ours, thorough, crossing),
        )
        if (ours.chains, theirs.chains) not in seen:
            seen.append((ours.chains, theirs.chains))
            yield ours, theirs


def _doubt(alignment: Alignment) -> tuple[int, int, float]:
    """How much an alignment leaves open: weights unmapped, weights guessed, total cost."""
    statuses = Counter(assignment.status for assignment in alignment.assignments)
    return statuses["unmapped"], statuses["guessed"], sum(a.evidence.cost or 0.0 for a in alignment.assignments)


def _align(source: UseGraph, target: UseGraph, layers: LayerPolicy) -> Alignment:
    sides, chain_pairs = _compare(source, target)
    found: list[RolePair] = []
    pairings = []
    chains = sides.source.graph.chains, sides.target.graph.chains
    depths = [(chains[0][a].depth, chains[1][b].depth) for a, b in chain_pairs]
    for (number_source, number_target), policy in zip(chain_pairs, chain_policies(layers, depths), strict=True):
        pairing, pairs = _align_chain(sides, number_source, number_target, policy)
        pairings.append(pairing)
        found += pairs
    found += _align_outside(sides)
    found += _alone(sides, {number for _, number in chain_pairs})
    assignments = to_assignments(sides.graphs, found)
    assignments += companions(source.lowered.graph, target.lowered.graph, assignments)
    return Alignment(assignments, tuple(pairings), remarks(*sides.graphs))


def _compare(ours: UseGraph, theirs: UseGraph) -> tuple[Sides, list[tuple[int, int]]]:
    names = pair_inputs(ours, theirs)
    apart = distances(ours, names[0]), distances(theirs, names[1])
    flows = streams(ours, apart[0].inputs), streams(theirs, apart[1].inputs)
    chain_pairs = pair_chains((ours, flows[0], apart[0]), (theirs, flows[1], apart[1]))
    kept = _kept(ours, {a for a, _ in chain_pairs}), _kept(theirs, {b for _, b in chain_pairs})
    if kept != (ours.chains, theirs.chains):
        return _compare(ours.cut_into(kept[0]), theirs.cut_into(kept[1]))
    shared = {a: f"chain {b}" for a, b in chain_pairs}
    source_names = {number: shared.get(number, f"source chain {number}") for number in range(len(ours.chains))}
    target_names = {number: f"chain {number}" for number in range(len(theirs.chains))}
    widths = WidthMap()
    for width, other in paired_widths(ours, theirs, names):
        widths.note(width, other)
    finders = AnchorFinder(ours, flows[0], source_names), AnchorFinder(theirs, flows[1], target_names)
    return Sides(*finders, apart, (_words(ours.lowered.graph), _words(theirs.lowered.graph)), widths), chain_pairs


def _kept(graph: UseGraph, paired: set[int]) -> tuple[Chain, ...]:
    """Chains that found a partner or truly repeat; a block that stands alone and has no partner is no chain."""
    return tuple(chain for number, chain in enumerate(graph.chains) if number in paired or chain.depth > 1)


def _alone(sides: Sides, paired: set[int]) -> list[RolePair]:
    """Refusals for target chains that no source chain resembles."""
    graph = sides.target.graph
    blocks = [
        chain.block(block)
        for number, chain in enumerate(graph.chains)
        if number not in paired
        for block in range(chain.depth)
    ]
    return [RolePair(target) for block in blocks for target in candidates(sides.target, block, None, {}, split=False)]


def _words(graph: Graph) -> dict[str, frozenset[str]]:
    return {
        weight.name: frozenset(word for word in re.split(r"[._\d]+", weight.name.lower()) if word)
        for weight in graph.weights
    }


# Inside chains


def _align_chain(
    sides: Sides, number_source: int, number_target: int, layers: LayerPolicy
) -> tuple[LayerPairing, list[RolePair]]:
    ours, theirs = sides.source.graph.chains[number_source], sides.target.graph.chains[number_target]
    chosen = pair_layers(layers, ours.depth, theirs.depth)
    _note_stream_widths(sides, number_source, number_target)
    model = _align_block(sides, (number_source, ours.sample), (number_target, theirs.sample), learn=True)
    found: list[RolePair] = []
    for block, source_block in enumerate(chosen):
        places = (number_source, source_block), (number_target, block)
        if source_block in ours.irregular or block in theirs.irregular:
            pairs = _align_block(sides, *places)
        else:
            pairs = _lifted(sides, model, *places)
        found += [pair.at_layer(source_block) for pair in pairs]
    pairing = LayerPairing(
        chain_name(sides.source.graph, ours),
        chain_name(sides.target.graph, theirs),
        ours.depth,
        policy_name(layers),
        chosen,
    )
    return pairing, found


def _note_stream_widths(sides: Sides, number_source: int, number_target: int) -> None:
    ends = []
    for finder, number in ((sides.source, number_source), (sides.target, number_target)):
        entry = finder.streams.entries[number, finder.graph.chains[number].sample]
        ends.append([finder.graph.landmarks[index].shape for index in sorted(entry)])
    for ours, theirs in zip(*ends, strict=False):
        if ours and theirs:
            sides.widths.note(ours[-1], theirs[-1], _STREAM_VOTES)


def _align_block(sides: Sides, source: tuple[int, int], target: tuple[int, int], learn: bool = False) -> list[RolePair]:
    regions = [
        list(finder.graph.chains[number].block(block))
        for finder, (number, block) in ((sides.source, source), (sides.target, target))
    ]
    pairs = _align_regions(sides, regions[0], regions[1], None, _REFUSAL_INSIDE)
    if learn:
        _learn_widths(sides, pairs)
    return pairs


def _learn_widths(sides: Sides, pairs: list[RolePair]) -> None:
    for found in pairs:
        if found.source is not None and found.source.slot.rows is None and found.target.slot.rows is None:
            for ours, theirs in zip(found.source.widths, found.target.widths, strict=False):
                sides.widths.note(ours, theirs)


def _lifted(sides: Sides, model: list[RolePair], source: tuple[int, int], target: tuple[int, int]) -> list[RolePair]:
    """A representative pair of blocks carried over to another: what stands in the same place plays the same role."""
    move_source = _carry(sides.source.graph, source)
    move_target = _carry(sides.target.graph, target)
    moved = (found.moved(move_source, move_target) for found in model)
    return [found for found in moved if found is not None]


def _carry(graph: UseGraph, place: tuple[int, int]) -> Callable[[int], int | None]:
    chain = graph.chains[place[0]]
    sample, block = _weighty(graph, chain.block(chain.sample)), _weighty(graph, chain.block(place[1]))
    partner = dict(zip(sample, block, strict=False)) if len(sample) == len(block) else {}
    return partner.get


def _weighty(graph: UseGraph, block: range) -> list[int]:
    return [index for index in block if graph.landmarks[index].uses or graph.landmarks[index].kind == "norm"]


# Outside chains


def _align_outside(sides: Sides) -> list[RolePair]:
    regions = [[mark.index for mark in graph.outside()] for graph in sides.graphs]
    return _align_regions(sides, regions[0], regions[1], sides.distances, _REFUSAL_OUTSIDE)


def _comparable(
    sides: Sides, source: list[int], target: list[int], apart: tuple[Distances | None, Distances | None]
) -> tuple[list[Candidate], list[Candidate]]:
    """Candidates of two regions; where one side holds a fused product that cannot be split, none is on either side."""
    for split in (True, False):
        ours = candidates(sides.source, source, apart[0], sides.words[0], split)
        theirs = candidates(sides.target, target, apart[1], sides.words[1], split)
        if not any(is_unsplit(candidate) for candidate in (*ours, *theirs)):
            break
    return ours, theirs


def _align_regions(
    sides: Sides,
    source: list[int],
    target: list[int],
    apart: tuple[Distances, Distances] | None,
    refusal: float,
) -> list[RolePair]:
    ours, theirs = _comparable(sides, source, target, apart or (None, None))
    matches = pair(sides.graphs, ours, theirs, sides.widths, refusal)
    paired = {match.target: match for match in matches}
    return [role_pair(ours, candidate, paired.get(place)) for place, candidate in enumerate(theirs)]
