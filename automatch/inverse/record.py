"""The mapping from the target back to the source."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod
from typing import get_args

from automatch.core.expr import sources
from automatch.core.mapping import Entry, Evidence, LayerPairing, MappingRecord, Method, Status
from automatch.errors import AutomatchError, InverseError, together
from automatch.inverse.recover import WEAKER, Recovered, listed, recovered

METHODS: tuple[Method, ...] = get_args(Method)
"""From the method that shows most to the one that shows least."""


def inverse(record: MappingRecord, *, partial: bool = False) -> MappingRecord:
    """The mapping that makes the source's weights from the target's.

    Every target weight's expression is walked from the outside in, with what is known of its value; see
    `automatch.inverse.pieces`. What the walks bring of a source weight is put together. Where a target repeats itself
    (untied copies, entries that a resize repeated), the first place counts.

    Movements are undone to the byte. Arithmetic is undone up to rounding, and the evidence says so.

    An entry has the weakest status of those that it is made of. `proved` stays where nothing rounds and every choice of
    target weights is what the mapping makes of some source; else the runs of both models showed less than the way back
    claims.

    Args:
        record: The mapping.
        partial: Whether source weights that cannot be recovered become unmapped entries, rather than an error.

    Returns:
        The mapping with both sides swapped, an entry for every key of the source, tied keys included; without a proof.

    Raises:
        InverseError: Source weights cannot be recovered and `partial` is not set; all are listed, each with the reason.

    Example:
        >>> from automatch.core.expr import Concat, Source, text
        >>> from automatch.core.graph import Weight
        >>> from automatch.core.mapping import Side
        >>> q, k = Source("q", (2, 4)), Source("k", (2, 4))
        >>> weights = (Weight("q", (2, 4), "float32"), Weight("k", (2, 4), "float32"))
        >>> entry = Entry("qk", (4, 4), "float32", "structural", Concat((q, k)), Evidence("structure"))
        >>> sides = Side("Old", "export", weights), Side("New", "export", (Weight("qk", (4, 4), "float32"),))
        >>> [text(entry.expr) for entry in inverse(MappingRecord(*sides, (entry,))).entries]
        ['qk[0:2]', 'qk[2:4]']
    """
    found = recovered(record)
    lost = [each for each in found if each.expr is None]
    if lost and not partial:
        raise _refusal(record, lost)
    limit = _what_limits_a_proof(record, found)
    entries = {entry.target: entry for entry in record.entries}
    chains = tuple(turned for pairing in record.chains if (turned := _turned(pairing)) is not None)
    return MappingRecord(
        source=record.target,
        target=record.source,
        entries=tuple(_entry(key, each, entries, limit) for each in found for key in each.weight.keys),
        chains=chains,
        notes=tuple(_notes(record, len(chains))),
    )


def _refusal(record: MappingRecord, lost: Sequence[Recovered]) -> AutomatchError:
    sides = f"{record.source.name or 'the source'} onto {record.target.name or 'the target'}"
    headline = (
        f"the mapping of {sides} has no inverse: {len(lost)} of {len(record.source.weights)} source weights cannot be "
        "recovered; `partial=True` leaves these unmapped:"
    )
    return together(InverseError, headline, [f"{each.weight.name}: {each.why_not}" for each in lost], limit=len(lost))


def _entry(key: str, found: Recovered, entries: dict[str, Entry], limit: str) -> Entry:
    weight = found.weight
    if found.expr is None:
        why = (f"it cannot be recovered: {found.why_not}",)
        return Entry(key, weight.shape, weight.dtype, "unmapped", None, Evidence("structure", why))
    made_of = [entries[source] for source in sources(found.expr)]
    weakest: Status = max((entry.status for entry in made_of), key=WEAKER.__getitem__, default="structural")
    method: Method = max((entry.evidence.method for entry in made_of), key=METHODS.index, default="structure")
    reasons = list(_reasons(found, made_of))
    if weakest == "proved" and (limit or found.rounds):
        weakest = "structural"
        reasons.append(limit or "the runs that proved the way there did not run the way back")
    return Entry(key, weight.shape, weight.dtype, weakest, found.expr, Evidence(method, tuple(reasons)))


def _reasons(found: Recovered, made_of: Sequence[Entry]) -> Iterator[str]:
    targets = [entry.target for entry in made_of]
    yield f"undoes what the mapping makes of it in {listed(targets)}" if targets else "it has no elements"
    if found.rounds:
        yield "undoes arithmetic, which rounds: its last bits may differ"
    spare = [key for key in found.read_by if key not in targets]
    if spare:
        yield f"{listed(spare)} {'repeat' if len(spare) > 1 else 'repeats'} it, which is not looked at"
    guessed = [entry.target for entry in made_of if entry.status == "guessed"]
    if guessed:
        yield f"{listed(guessed)} {'were guesses' if len(guessed) > 1 else 'was a guess'} of the mapping"


def _what_limits_a_proof(record: MappingRecord, found: Sequence[Recovered]) -> str:
    """Why the runs of both models say less of the way back; empty where they say as much.

    They show that the models agree wherever the target holds what the mapping makes of a source. That is everywhere if
    no two elements of the target depend on each other and none is fixed: if they are no more than the source's.
    """
    known = sum(prod(each.weight.shape) for each in found if each.expr is not None)
    held = sum(prod(weight.shape) for weight in record.target.weights)
    if known == held and all(entry.expr is not None for entry in record.entries):
        return ""
    return (
        f"the way there is proved, but of {held:,} numbers in the target only {known:,} are free: the models agree "
        "where the others are what the mapping makes of them"
    )


def _turned(pairing: LayerPairing) -> LayerPairing | None:
    """A pairing of layers the other way round; None where it is not one to one."""
    depth = pairing.source_depth
    if sorted(pairing.layers) != list(range(depth)):
        return None
    layers = tuple(pairing.layers.index(layer) for layer in range(depth))
    return LayerPairing(pairing.target, pairing.source, len(pairing.layers), pairing.policy, layers)


def _notes(record: MappingRecord, chains: int) -> Iterator[str]:
    yield f"the inverse of the mapping of {record.source.name or 'a source'} onto {record.target.name or 'a target'}"
    dropped = len(record.chains) - chains
    if dropped:
        what = "the pairing of one chain of layers is" if dropped == 1 else f"the pairings of {dropped} chains are"
        yield f"{what} not one to one and left out"
