"""Runs of a conversion on other inputs than the examples: other lengths, every row of a table, padded masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from torch import Tensor

from automatch.core.mapping import ProofRecord
from automatch.exact.budget import OutOfBudget
from automatch.inputs.draws import has_masks
from automatch.inputs.lengths import all_rows, as_long_as, cuts, longer
from automatch.prove.influence import Ledger
from automatch.prove.outputs import OutputPair
from automatch.prove.trial import Draw, Setting, Trial, attempt, attempts
from automatch.prove.weights import Manner

MOST_ROWS, MOST_WORK = 4096, 4_000_000_000
"""Row numbers that one input may hold to name all rows of a table, and the same times the numbers of both models."""

LENGTHS = 12
"""Shorter and longer inputs that are tried until both models take them."""

AT_ONCE = 2
"""How many of these are run on the same weights."""

LONG = 16
"""Lengths that some table has rows for, tried until both models take one and agree."""

NAMED = 3
"""Draws on which all rows are named, where chance may have hidden a few elements."""


Length: TypeAlias = tuple[int, int, Draw, Setting]
"""A size of an axis, the one that takes its place, and how it is run."""


@dataclass(frozen=True, slots=True)
class Others:
    """What such runs need.

    Attributes:
        setting: The two models and what is between them.
        number: The number of the first such draw.
        pairs: Which outputs are compared.
        ledger: Where influences are entered.
    """

    setting: Setting
    number: int
    pairs: tuple[OutputPair, ...]
    ledger: Ledger


def on_other_inputs(record: ProofRecord, others: Others) -> tuple[ProofRecord, str]:
    """All of these runs, as far as the budget goes; what is left out is noted.

    Returns:
        The record; and how the models differ on inputs unlike the examples, empty where they do not.
    """
    told: list[str] = []
    for run in (other_lengths, all_positions, all_rows_named, other_masks):
        if record.outcome != "agree" or (told and run is not other_masks):
            continue
        try:
            others.setting.budget.check("before other inputs were run", "the proof")
            others.setting.say("proving: other inputs")
            record, difference = run(record, others)
        except OutOfBudget:
            note = "not all other inputs were run: the budget is spent; a larger budget_s lets them be"
            return replace(record, notes=(*record.notes, note)), ", ".join(told)
        told += [difference] if difference else []
    return record, ", ".join(told)


def other_lengths(record: ProofRecord, others: Others) -> tuple[ProofRecord, str]:
    """Run both models on shorter inputs, and on longer ones, until some are found that both take and agree on.

    Two models may well treat one length differently (one pads its text, the other does not), but where they agree on
    the given one alone, something may have been fitted to it. Where they agree on shorter inputs and part on longer
    ones, they are not seen to be one function: what they do farther on is none of the examples' doing.

    Returns:
        The record with the lengths; and how they differ on longer inputs, empty where they do not.
    """
    setting = others.setting
    shorter = [(size, less, Draw(others.number, cut=(size, less)), setting) for size, less in cuts(setting.inputs)]
    more = [
        (size, larger, Draw(others.number), replace(setting, inputs=made))
        for size, larger, made in longer(setting.inputs)
    ]
    # most often both models take the first of each and agree, and one draw serves both
    firsts, border = [(made, draw) for _, _, draw, made in (*shorter[:1], *more[:1])], len(shorter[:1])
    begun = attempts(firsts, others.pairs) if firsts else []
    agreeing, differing = _first_length(shorter[:LENGTHS], begun[:border], others.pairs, record.tolerance)
    also, parting = _first_length(more[:LENGTHS], begun[border:], others.pairs, record.tolerance)
    agreeing, differing = agreeing + also, differing + parting
    if agreeing:
        told = "; ".join([f"inputs {' and '.join(agreeing)}", *differing])
        return replace(record, lengths=told), "" if also else ", ".join(parting)
    if differing:
        reason = f"the outputs agree on the given inputs, but on no others that both take: {', '.join(differing)}"
        return replace(record, outcome="differ", reason=reason), ""
    lengths = "no other length was shown: the models took no shorter inputs, and no longer ones"
    return replace(record, lengths=lengths), ""


def _first_length(
    tried: Sequence[Length], begun: Sequence[Trial], pairs: tuple[OutputPair, ...], tolerance: float
) -> tuple[list[str], list[str]]:
    """What is said of the first other length that both models take and agree on, and of those on which they differ.

    Args:
        tried: The lengths.
        begun: What the first of them gave, where they were run already.
        pairs: Which outputs are compared.
        tolerance: The gap up to which outputs agree.
    """

    def agrees(trial: Trial) -> bool:
        return not trial.failure and max(found.largest for found in trial.gaps) <= tolerance

    differing: list[str] = []
    for (size, other, _, _), trial in _ran(tried, begun, pairs, agrees):
        if trial.failure:
            continue
        said, worst = f"with size {other} in place of {size}", max(found.largest for found in trial.gaps)
        if agrees(trial):
            return [f"{said} were run as well, and agree within {worst:.1e}"], differing
        differing.append(f"{said} they differ by {worst:.1e}")
    return [], differing


def _ran(
    tried: Sequence[Length], begun: Sequence[Trial], pairs: tuple[OutputPair, ...], until: Callable[[Trial], bool]
) -> Iterator[tuple[Length, Trial]]:
    """Lengths with what they gave, run a few at once as they are asked for."""
    yield from zip(tried, begun, strict=False)
    for start in range(len(begun), len(tried), AT_ONCE):
        if tried[start][3].budget.spent:
            return
        batch = tried[start : start + AT_ONCE]
        trials = attempts([(setting, draw) for _, _, draw, setting in batch], pairs, until=until)
        yield from zip(batch, trials, strict=False)


def all_positions(record: ProofRecord, others: Others) -> tuple[ProofRecord, str]:
    """Run both models on inputs as long as a table of positions may be, where that costs little: its rows show then.

    Which table that is, is not known: those are tried of which the last rows were not seen, the longest first. Models
    that differ on such inputs may have been made for shorter ones; then it shows nothing.
    """
    setting = others.setting
    most = min(MOST_ROWS, MOST_WORK // max(1, setting.numbers))
    tables = {size for seen in others.ledger.found.values() for size in _lengths(seen.alive)}
    sizes = {size - less for size in tables for less in (0, 1, 2)}
    tried = as_long_as(setting.inputs, [size for size in sizes if 2 < size <= most])
    fitting = [made for _, _, made in tried if all(made.source[place].numel() <= most for place in made.free)]
    for made in fitting[:LONG]:
        if setting.budget.spent:
            break
        draw = Draw(others.number, Manner(temper=0.4))
        others.ledger.reopen()
        long = replace(setting, inputs=made)
        trial = attempt(long, draw, others.pairs, others.ledger, record.tolerance)
        if not trial.failure and all(found.largest <= record.tolerance for found in trial.gaps):
            break
    return record, ""


def _lengths(alive: Tensor) -> Iterator[int]:
    """The axes, of the first two, along which the last rows of a table were not seen; no convolution has any."""
    for axis in range(2) if 2 <= alive.dim() <= 3 else ():
        rows = alive.movedim(axis, 0).flatten(1).any(1)
        seen = int(rows.sum())
        if 0 < seen < len(rows) and bool(rows[:seen].all()):
            yield len(rows)


def all_rows_named(record: ProofRecord, others: Others) -> tuple[ProofRecord, str]:
    """Run both models on so many batch items that every row of their tables is named, where that costs little."""
    setting, ledger = others.setting, others.ledger
    made = all_rows(setting.inputs, min(MOST_ROWS, MOST_WORK // max(1, setting.numbers)))
    if made is None:
        return record, ""
    wide = replace(setting, inputs=made)
    ledger.reopen()
    for number in range(NAMED):
        trial = attempt(wide, Draw(others.number + 2 + number, Manner(temper=0.4)), others.pairs, ledger)
        worst = max((found.largest for found in trial.gaps), default=0.0)
        if worst > record.tolerance:
            reason = f"on inputs that name every row of the tables, the outputs differ by {worst:.1e} of their scale"
            return replace(record, outcome="differ", reason=reason), ""
        if trial.failure or not any(part.nearly_whole for part in ledger.found.values()):
            return record, ""
    return record, ""


def other_masks(record: ProofRecord, others: Others) -> tuple[ProofRecord, str]:
    """Run both models with padded masks where they take masks.

    Returns:
        The record with what that showed; and how they differ, empty where they do not.
    """
    if not has_masks(others.setting.inputs):
        return record, ""
    others.ledger.reopen()
    trial = attempt(others.setting, Draw(others.number + 1, padded=True), others.pairs, others.ledger)
    if trial.failure:
        note = f"masks kept their example values: with padded ones, {trial.failure}"
        return replace(record, notes=(*record.notes, note)), ""
    worst = max(found.largest for found in trial.gaps)
    if worst > record.tolerance:
        return record, f"with padded masks they differ by {worst:.1e}"
    note = f"masks were drawn anew as well, and the outputs agree within {worst:.1e}"
    return replace(record, notes=(*record.notes, note)), ""
