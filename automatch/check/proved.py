"""What was shown of a mapping when it was written down, and whether that still holds."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from automatch.check.lines import Line, lines
from automatch.core.graph import Function
from automatch.core.mapping import Entry, MappingRecord, Side, Verdict

GOOD: tuple[Verdict, ...] = ("proved", "agrees, in part shown")
"""The verdicts that are worth remembering."""


@dataclass(frozen=True, slots=True)
class Proved:
    """What a run of both models showed.

    Attributes:
        verdict: `proved`, or `agrees, in part shown`.
        not_proved: Target keys of which not every element was shown.
        source: What the source computed; None where nothing is asked of it.
        target: The same of the target.
    """

    verdict: Verdict
    not_proved: frozenset[str] = frozenset()
    source: Function | None = None
    target: Function | None = None


def proved_in(other: MappingRecord, record: MappingRecord) -> Proved | None:
    """What another mapping asks of this one; None where it was not proved. Functions count where both know them."""
    if other.verdict not in GOOD:
        return None
    source, target = (
        None if got.function is None else want.function
        for want, got in ((other.source, record.source), (other.target, record.target))
    )
    open_keys = frozenset(entry.target for entry in other.entries if entry.status != "proved")
    return Proved(other.verdict, open_keys, source, target)


def proof_differences(record: MappingRecord, wanted: Proved | None, keys: Collection[str]) -> tuple[str, ...]:
    """What is not shown of a mapping any more, each as a sentence; empty where all is, or nothing is asked.

    Args:
        record: The mapping.
        wanted: What was shown.
        keys: The target keys that the expectation speaks of.
    """
    if wanted is None:
        return ()
    lost = _lost(record, wanted, keys) if record.verdict in GOOD else _worse(record, wanted)
    return (
        *lost,
        *_function_differences("source", wanted.source, record.source),
        *_function_differences("target", wanted.target, record.target),
    )


def unproved_lines(entries: Collection[Entry]) -> tuple[Line, ...]:
    """The keys of entries that are not proved, as patterns; what they are made of does not keep them apart."""
    unmapped = [replace(entry, status="unmapped", expr=None) for entry in entries if entry.status != "proved"]
    return lines(unmapped)


def _worse(record: MappingRecord, wanted: Proved) -> Iterator[str]:
    was = "was proved" if wanted.verdict == "proved" else "agreed when it was run"
    if record.verdict == "refuted" and record.proof is not None:
        yield f"{was}, is now refuted: {record.proof.reason}"
        yield from record.proof.divergence
        return
    why = record.not_run or ("" if record.proof is None else record.proof.reason)
    yield f"{was}, is not run now" + (f": {why}" if why else "")


def _lost(record: MappingRecord, wanted: Proved, keys: Collection[str]) -> Iterator[str]:
    asked = [entry for entry in record.entries if entry.target in keys and entry.target not in wanted.not_proved]
    for line in unproved_lines(asked):
        times = f" ({len(line.entries)} keys)" if len(line.entries) > 1 else ""
        shown = line.entries[0].evidence.shown
        yield f"not proved any more: {line.target}{times}" + (f": {shown.reason}" if shown is not None else "")


def _function_differences(label: str, want: Function | None, side: Side) -> Iterator[str]:
    if want is None:
        return
    got = side.function
    if got is None:
        yield f"the function of the {label} was not recorded"
        return
    if got.digest == want.digest:
        return
    before, after = dict(want.operators), dict(got.operators)
    changed = [name for name in sorted({*before, *after}) if before.get(name, 0) != after.get(name, 0)]
    if changed:
        counts = ", ".join(f"{name} {before.get(name, 0)} -> {after.get(name, 0)}" for name in changed)
        yield f"the {label}'s function changed: {counts}"
    else:
        yield f"the {label}'s function changed in order, shapes or wiring; its operators are the same"
