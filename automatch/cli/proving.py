"""`automatch prove`: build both models for real, run them under a mapping, and print what that showed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from automatch.check import expected
from automatch.cli import statuses
from automatch.cli.console import show, warnings_as_lines
from automatch.cli.gathering import gathered
from automatch.cli.matching import INPUTS_HELP, Named, writable
from automatch.cli.progress import progress, without_torch_logs
from automatch.cli.references import seeded
from automatch.cli.sides import make, request
from automatch.core import mapping_json
from automatch.core.expr import Concat, Constant, Expr, Reshape, Source, Sum
from automatch.core.graph import Shape, Weight
from automatch.core.json_fields import parse
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side
from automatch.core.mapping_file import read_text, write
from automatch.errors import InputsError, MappingError, ModelError, RulesError, together
from automatch.from_rules import adapt
from automatch.inputs.prepare import warn
from automatch.lift.keys import Keys
from automatch.prove import prove, with_proof
from automatch.prove.conversion import prepared_for
from automatch.report.proof import proof_report
from automatch.rules.build import Scope, build
from automatch.rules.reading import read_term
from automatch.rules.ruleset import RuleSet
from automatch.rules.splitting import numbered
from automatch.trace.sizes import sizes_of
from automatch.trace.weights import of_module


def run(
    source: Named, target: Named, mapping: Path, output: Path | None, *, draws: int = 3, quiet: bool = False
) -> int:
    """Prove a mapping; gives the exit status: 0 where the outputs agree, 1 where they differ or nothing was shown.

    Args:
        source: The side that has the weights.
        target: The side that needs them.
        mapping: A mapping file, an expectation file, or a rules file (.toml).
        output: Where to write the mapping with the proof; None writes nothing.
        draws: How many draws of all source weights.
        quiet: Whether to show no progress.

    Raises:
        AutomatchError: A model, its inputs or a file cannot be used.
    """
    steps: list[Any] = [
        lambda: request("source", *source),
        lambda: request("target", *target),
        partial(read_text, mapping, "mapping file"),
        *([] if output is None else [partial(writable, output)]),
    ]
    sides = gathered(steps)[:2]
    with warnings_as_lines(), progress(quiet) as stage, without_torch_logs():
        stage("building the models")
        with seeded(0):
            (ours, our_inputs), (theirs, their_inputs) = (make(side, "cpu") for side in sides)
        teacher, student = _module(ours, "source"), _module(theirs, "target")
        record = _record(mapping, teacher, student)
        stage("running both models")
        try:
            prepared = prepared_for(teacher, student, our_inputs, their_inputs)
            if prepared.conflict:
                raise InputsError(prepared.conflict)
            warn(prepared, stacklevel=2)
            proof = prove(record, teacher, student, our_inputs, their_inputs, draws=draws, prepared=prepared)
        except InputsError as error:
            raise InputsError(f"{error}\n{INPUTS_HELP}") from error
    proved = with_proof(record, proof)
    if output is not None:
        write(proved, output)
    show(proof_report(proved))
    if output is not None:
        print(f"\nwrote {output}")
    return statuses.of(statuses.unshown(proved))


def _module(made: Any, side: str) -> nn.Module:
    if not isinstance(made, nn.Module):
        what = "is a checkpoint" if isinstance(made, Path) else f"comes as {type(made).__name__}"
        raise ModelError(f"the {side} {what}, but a proof runs the model: name a factory that gives an nn.Module")
    return made


def _record(path: Path, source: nn.Module, target: nn.Module) -> MappingRecord:
    """The mapping in a file of any kind.

    Raises:
        RulesError: The rules cannot be read, or do not fit.
        MappingFormatError: The file is damaged or of another kind.
        MappingError: An expectation does not say how its weights are made.
    """
    if path.suffix == ".toml":
        return adapt(RuleSet.load(path), source, target).record
    text = read_text(path, "mapping file")
    document = parse(text, str(path))
    if isinstance(document, dict) and document.get("format") == expected.FORMAT:
        wanted = expected.from_document(document, str(path), to_compare=True)
        return from_expectation(wanted, source, target)
    return mapping_json.loads(text, str(path))


def from_expectation(wanted: dict[str, expected.Wanted], source: nn.Module, target: nn.Module) -> MappingRecord:
    """A mapping of what a person wrote: sources as they are, joined where sizes add up, else summed.

    Raises:
        MappingError: Sizes fit neither way, or keys are not there; all of them are listed.
    """
    sides = [_side(source), _side(target)]
    have, need = ({key: w for w in side.weights for key in w.keys} for side in sides)
    order = [key for key in target.state_dict() if key in need]
    keys = numbered(sides[0].weights)
    faults = [f"{key}: the target has no such weight" for key in wanted if key not in need]
    entries: list[Entry] = []
    for key in order:
        try:
            entries.append(_entry(key, need[key], wanted.get(key), have, keys))
        except MappingError as error:
            faults.append(str(error))
    if faults:
        headline = "the expectation cannot be run; write a mapping file for what it cannot say:"
        raise together(MappingError, headline, faults)
    return MappingRecord(sides[0], sides[1], tuple(entries))


def _entry(key: str, weight: Weight, wanted: expected.Wanted | None, have: dict[str, Weight], keys: Keys) -> Entry:
    match wanted:
        case expected.MadeOf(sources=sources):
            absent = [name for name in sources if name not in have]
            if absent:
                raise MappingError(f"{key}: the source has no {', '.join(absent)}")
            made = _made(key, weight.shape, [Source(name, have[name].shape) for name in sources])
        case expected.Filled(value=value):
            made = Constant(value, weight.shape)
        case expected.Written(text=text):
            made = _written(key, weight.shape, text, keys)
        case _:
            reason = "the expectation leaves it out" if wanted else "the expectation does not speak of it"
            return Entry(key, weight.shape, weight.dtype, "unmapped", None, Evidence("names", (reason,)))
    evidence = Evidence("names", ("written by hand",))
    return Entry(key, weight.shape, weight.dtype, "structural", made, evidence)


def _written(key: str, shape: Shape, text: str, keys: Keys) -> Expr:
    """The expression of a text, which says numbers to six digits."""
    try:
        return build(read_term(text), Scope(keys, {}, {}, shape))
    except RulesError as error:
        raise MappingError(f"{key} {list(shape)}: {text!r} cannot be run: {error}") from None


def _made(key: str, shape: Shape, parts: list[Source]) -> Expr:
    if len(parts) == 1 and parts[0].shape == shape:
        return parts[0]
    for axis in range(len(shape)):
        if all(len(part.shape) == len(shape) for part in parts) and _joined(parts, axis) == shape:
            return Concat(tuple(parts), axis)
    if all(part.shape == shape for part in parts):
        return Sum(tuple(parts))
    size = [entry for entry in shape if entry != 1]
    if len(parts) == 1 and [entry for entry in parts[0].shape if entry != 1] == size:
        return Reshape(parts[0], shape)
    found = ", ".join(f"{part.key} {list(part.shape)}" for part in parts)
    raise MappingError(f"{key} {list(shape)}: {found} neither join nor add up to it")


def _joined(parts: list[Source], axis: int) -> Shape | None:
    rests = {part.shape[:axis] + part.shape[axis + 1 :] for part in parts}
    first = parts[0].shape
    total = sum(part.shape[axis] for part in parts)
    return (*first[:axis], total, *first[axis + 1 :]) if len(rests) == 1 else None


def _side(model: nn.Module) -> Side:
    inventory = of_module(model)
    return Side(type(model).__name__, "names", inventory.weights, inventory.notes, sizes_of(model))
