"""Matching two sides that are known by names and shapes alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from automatch.align.names.indexed import with_indexed
from automatch.align.names.layers import layers_of
from automatch.align.names.leftovers import constants, unmapped
from automatch.align.names.lift import lift
from automatch.align.names.nodes import Node
from automatch.align.names.normed import normed
from automatch.align.names.patterns import Path, Pattern, collapse, shared_prefix
from automatch.align.names.remaining import remaining
from automatch.align.names.rounds import match_patterns
from automatch.align.names.runs import run_order
from automatch.align.names.stacks import stacks
from automatch.align.names.unstacks import unstacks
from automatch.align.names.wholes import in_force, wholes
from automatch.align.policy import LayerPolicy
from automatch.core.alignment import Alignment, Assignment
from automatch.core.graph import Graph, Weight


def align_names(source: Graph, target: Graph, layers: LayerPolicy = "uniform") -> Alignment:
    """Say which source weights make up every target weight, by state-dict keys and shapes.

    Keys collapse to patterns over the numbers of repeated blocks; blocks are paired, then their layers, then patterns
    inside paired blocks and outside of all; what is left over is tried once more, key by key. Guesses and gaps then
    follow what blocks do as wholes, where both sides are equally large.

    Args:
        source: The source; of its code, where there is any, only the order in which weights run is read.
        target: The target, likewise.
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
    skip = shared_prefix(source.weights), shared_prefix(target.weights)
    ordered = _is_ordered(source.weights), _is_ordered(target.weights)
    runs = run_order(source), run_order(target)
    old, new = collapse(source.weights, skip[0], runs=runs[0]), collapse(target.weights, skip[1], runs=runs[1])
    first = match_patterns(old, new, ordered)
    pairing = layers_of(first.chains, old, new, layers)
    done = _by_target(lift(first, pairing))
    done |= _by_target(stacks(first, old, pairing, done))
    done |= _by_target(unstacks(first, old, pairing, done))

    old_rest = _left_over(old, [match.source for match in first.matches], first.chains.values())
    new_rest = _left_over(new, [match.target for match in first.matches], first.chains)
    rest = collapse(old_rest, skip[0], False, runs[0]), collapse(new_rest, skip[1], False, runs[1])
    second = match_patterns(*rest, ordered, first.scores.widths)
    done = _by_target(lift(second, layers_of({}, *rest, "uniform"))) | done

    done |= _by_target(constants(first, new, done))
    done |= _by_target(constants(second, rest[1], done))
    changed: dict[str, Assignment] = {}
    if first.scores.widths.same:
        done |= _by_target(remaining(old, new, first.chains, pairing, done))
        changed = wholes(source.weights, target.weights, done, kept=_ruled(done, layers))
        changed |= normed(source.weights, target.weights, done | changed)
    done = _by_target(unmapped(first, done)) | done | changed
    found = with_indexed([done[weight.name] for weight in target.weights], source.weights, target.weights, ordered[1])
    return Alignment(found, in_force(pairing.pairings, changed))


def _ruled(done: Mapping[str, Assignment], layers: LayerPolicy) -> frozenset[str]:
    """Weights whose layers somebody asked for: they follow no other block."""
    asked = layers != "uniform"
    return frozenset(key for key, each in done.items() if asked and each.evidence.source_layer is not None)


def _by_target(assignments: Iterable[Assignment]) -> dict[str, Assignment]:
    return {assignment.target: assignment for assignment in assignments}


def _is_ordered(weights: Sequence[Weight]) -> bool:
    """Whether the keys stand in an order of their own rather than sorted."""
    names = [weight.name for weight in weights]
    return names != sorted(names)


def _left_over(patterns: Sequence[Pattern], matched: Iterable[Node], paired: Iterable[Path]) -> list[Weight]:
    """Weights of patterns that were not matched, do not lie in paired blocks, and are no matched weight's bias."""
    matched = list(matched)
    used = {part.path for node in matched for part in node.patterns}
    whole = {part.module for node in matched if node.kind == "weight" for part in node.patterns}
    chains = set(paired)
    return [
        weight
        for pattern in patterns
        if pattern.path not in used and chains.isdisjoint(pattern.chains)
        if pattern.kind != "bias" or pattern.module not in whole
        for _, weight in pattern.members
    ]
