"""Matching two sides that are known by names and shapes alone."""

from __future__ import annotations

from collections.abc import Sequence

from automatch.align.names.layers import layers_of
from automatch.align.names.leftovers import constants, unmapped
from automatch.align.names.lift import lift
from automatch.align.names.patterns import Pattern, collapse, shared_prefix
from automatch.align.names.rounds import Round, match_patterns
from automatch.align.policy import LayerPolicy
from automatch.core.alignment import Alignment, Assignment
from automatch.core.graph import Graph, Weight


def align_names(source: Graph, target: Graph, layers: LayerPolicy = "uniform") -> Alignment:
    """Say which source weights make up every target weight, by state-dict keys and shapes alone.

    Keys collapse to patterns over the numbers of repeated blocks; blocks are paired, then their layers, then patterns
    inside paired blocks and outside of all; what is left over is tried once more, key by key.

    Args:
        source: The source; only its weights are read.
        target: The target; only its weights are read.
        layers: Which source layer a target layer takes where their numbers differ.

    Raises:
        PolicyError: The policy is unknown, or an explicit list fits no chain of blocks.

    Example:
        >>> old = [Weight(f"attn.{name}.weight", (8, 8), "float32") for name in ("q", "k", "v", "o")]
        >>> new = [Weight("attn.in_proj_weight", (24, 8), "float32"), Weight("attn.out.weight", (8, 8), "float32")]
        >>> for found in align_names(Graph(tuple(old)), Graph(tuple(new))).assignments:
        ...     print(found.target, [piece.source for piece in found.pieces])
        attn.in_proj_weight ['attn.q.weight', 'attn.k.weight', 'attn.v.weight']
        attn.out.weight ['attn.o.weight']
    """
    skips = shared_prefix(source.weights), shared_prefix(target.weights)
    ordered = _is_ordered(source.weights), _is_ordered(target.weights)
    patterns = collapse(source.weights, skips[0]), collapse(target.weights, skips[1])
    first = match_patterns(*patterns, ordered)
    pairing = layers_of(first.chains, *patterns, layers)
    done = {found.target: found for found in lift(first, pairing)}
    rest = (
        collapse(_left_over(first, patterns[0], source=True), skips[0], chains=False),
        collapse(_left_over(first, patterns[1], source=False), skips[1], chains=False),
    )
    second = match_patterns(*rest, ordered, first.scores.widths)
    done |= {found.target: found for found in lift(second, layers_of({}, *rest, "uniform"))}
    for found, own in ((first, patterns[1]), (second, rest[1])):
        done |= {constant.target: constant for constant in constants(found, own, done)}
    done = _why_not(first, done) | done
    return Alignment(tuple(done[weight.name] for weight in target.weights), pairing.pairings)


def _is_ordered(weights: Sequence[Weight]) -> bool:
    """Whether the keys stand in an order of their own rather than sorted."""
    names = [weight.name for weight in weights]
    return names != sorted(names)


def _left_over(found: Round, patterns: Sequence[Pattern], source: bool) -> list[Weight]:
    """Weights of the patterns that were not matched and do not lie in paired blocks."""
    side = found.source if source else found.target
    used = {
        part.path for match in found.matches for part in side.nodes[match.source if source else match.target].patterns
    }
    paired = set(found.chains.values() if source else found.chains)
    return [
        weight
        for pattern in patterns
        if pattern.path not in used and paired.isdisjoint(pattern.chains)
        for _, weight in pattern.members
    ]


def _why_not(found: Round, done: dict[str, Assignment]) -> dict[str, Assignment]:
    """The reason for every target weight that still has no source."""
    return {
        weight.name: unmapped(found, column, weight)
        for column, node in enumerate(found.target.nodes)
        if not node.fused
        for _, weight in node.patterns[0].members
        if weight.name not in done
    }
