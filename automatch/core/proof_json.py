"""What was shown of a mapping, and which functions it is between, as they stand in a mapping file."""

from __future__ import annotations

from typing import Literal, cast

from automatch.core.graph import Function
from automatch.core.json_fields import (
    Json,
    Members,
    filled,
    items,
    name,
    natural,
    number,
    number_to_json,
    numbers,
    one_of,
    shape,
    string,
)
from automatch.core.mapping import ComparedOutput, ProofRecord

OUTCOMES = ("agree", "differ", "nothing")


def function_to_json(function: Function) -> Json:
    """What a model computes, as it stands in a file."""
    return {"digest": function.digest, "operators": dict(function.operators)}


def function_from_json(value: object, where: str) -> Function:
    """The inverse of `function_to_json`.

    Raises:
        MappingFormatError: The value is none; all faults are listed.
    """
    members = Members.of(value, where)
    digest, operators = members.take("digest", name), members.take_or("operators", numbers, ())
    members.close()
    return Function(digest, operators)


def proof_to_json(proof: ProofRecord) -> Json:
    """What running both models showed, as it stands in a file."""
    return {
        "outcome": proof.outcome,
        "reason": proof.reason,
        "draws": proof.draws,
        "tolerance": number_to_json(proof.tolerance),
        "source_inputs": proof.source_inputs,
        "target_inputs": proof.target_inputs,
        **filled(
            lengths=proof.lengths or None,
            outputs=[_output_to_json(output) for output in proof.outputs],
            notes=list(proof.notes),
            divergence=list(proof.divergence),
        ),
    }


def _output_to_json(output: ComparedOutput) -> Json:
    fields: Json = {
        "source": output.source,
        "target": output.target,
        "shape": list(output.shape),
        "gap": number_to_json(output.gap),
    }
    return {**fields, **filled(disturbed=None if output.disturbed is None else number_to_json(output.disturbed))}


def proof_from_json(value: object, where: str) -> ProofRecord:
    """The inverse of `proof_to_json`.

    Raises:
        MappingFormatError: The value is none; all faults are listed.
    """
    members = Members.of(value, where)
    outcome, reason = members.take("outcome", one_of(*OUTCOMES)), members.take("reason", string)
    draws, tolerance = members.take("draws", natural), members.take("tolerance", number)
    ours, theirs = members.take("source_inputs", string), members.take("target_inputs", string)
    lengths = members.take_or("lengths", string, "")
    outputs = members.take_or("outputs", items(_output), ())
    notes = members.take_or("notes", items(string), ())
    divergence = members.take_or("divergence", items(string), ())
    members.close()
    told = cast('Literal["agree", "differ", "nothing"]', outcome)
    return ProofRecord(told, reason, draws, tolerance, ours, theirs, lengths, outputs, notes, divergence)


def _output(value: object, where: str) -> ComparedOutput:
    members = Members.of(value, where)
    source, target, size = (
        members.take("source", natural),
        members.take("target", natural),
        members.take("shape", shape),
    )
    gap, disturbed = members.take("gap", number), members.take_or("disturbed", number, None)
    members.close()
    return ComparedOutput(source, target, size, gap, disturbed)
