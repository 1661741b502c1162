"""A mapping as a JSON file, and back. The format is explained in `docs/mapping-format.md`.

The bytes are stable: the same record gives the same text. Reading trusts nothing: faults are collected and reported
together, each with its JSON path.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from math import prod
from typing import Literal, cast, get_args

from automatch.core.expr import Source, source_leaves
from automatch.core.expr_json import from_json, to_json
from automatch.core.graph import Rung, Weight
from automatch.core.json_fields import (
    Json,
    Members,
    fault,
    faults_of,
    filled,
    items,
    name,
    natural,
    number,
    number_to_json,
    numbers,
    one_of,
    open_document,
    shape,
    string,
)
from automatch.core.mapping import (
    Entry,
    Evidence,
    LayerPairing,
    MappingRecord,
    Method,
    Rival,
    Shown,
    Side,
    Status,
    Verdict,
)
from automatch.core.proof_json import function_from_json, function_to_json, proof_from_json, proof_to_json
from automatch.errors import MappingFormatError, together

FORMAT = "automatch.mapping"
VERSION = 1
LINE = 120
"""A value that fits a line of this many characters is written on one."""

STATUSES: tuple[Status, ...] = get_args(Status)
RUNGS: tuple[Rung, ...] = get_args(Rung)
METHODS: tuple[Method, ...] = get_args(Method)
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
KINDS = ("parameter", "buffer", "tensor")
MADE_BY = "automatch.mapping"
"""Under what a converted file's metadata names the mapping that it was made by."""


def dumps(record: MappingRecord) -> str:
    """The text of a mapping file: UTF-8, fixed order of fields, empty optional fields left out.

    Raises:
        ValueError: A number is NaN.
    """
    return _layout(_record_to_json(record)) + "\n"


def digest(record: MappingRecord) -> str:
    """A hash of what a mapping makes of what: its expressions and what the two sides are called, without its evidence.

    Returns:
        64 hexadecimal digits.
    """
    found = hashlib.sha256(json.dumps([record.source.name, record.target.name]).encode())
    for entry in record.entries:
        made = None if entry.expr is None else to_json(entry.expr)
        found.update(json.dumps([entry.target, list(entry.shape), made], sort_keys=True).encode())
    return found.hexdigest()


def loads(text: str, where: str) -> MappingRecord:
    """Read the text of a mapping file.

    Args:
        text: The whole file.
        where: What messages call it, usually its path.

    Raises:
        MappingFormatError: The text is not JSON, of another kind, of another version, or contradicts the format or
            itself; all faults are listed, each with its JSON path.
    """
    members = open_document(text, where, FORMAT, VERSION)
    try:
        record = _record(members)
    except MappingFormatError as error:
        faults = faults_of(error)
    else:
        faults = list(_contradictions(record))
        if not faults:
            return record
    count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
    raise together(MappingFormatError, f"{where}: {count} in the mapping; mend the file or make it again:", faults)


# Writing


def _layout(value: object, indent: int = 0, lead: int = 0) -> str:
    """JSON text that puts on one line what fits there; `lead` is the width of what precedes the value on its line."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if indent + lead + len(line) < LINE or not isinstance(value, dict | list):
        return line
    inner, outer = " " * (indent + 2), " " * indent
    if isinstance(value, list):
        rows = [_layout(item, indent + 2) for item in value]
        opening, closing = "[]"
    else:
        keys = [json.dumps(key, ensure_ascii=False) + ": " for key in value]
        rows = [key + _layout(item, indent + 2, len(key)) for key, item in zip(keys, value.values(), strict=True)]
        opening, closing = "{}"
    body = ",\n".join(inner + row for row in rows)
    return f"{opening}\n{body}\n{outer}{closing}"


def _record_to_json(record: MappingRecord) -> Json:
    return {
        "format": FORMAT,
        "version": VERSION,
        "verdict": record.verdict,
        **filled(not_run=record.not_run or None, next_step=record.next_step or None),
        "source": _side_to_json(record.source),
        "target": _side_to_json(record.target),
        **filled(
            chains=[_pairing_to_json(chain) for chain in record.chains],
            notes=list(record.notes),
            proof=None if record.proof is None else proof_to_json(record.proof),
        ),
        "entries": [_entry_to_json(entry) for entry in record.entries],
    }


def _side_to_json(side: Side) -> Json:
    weights = [_weight_to_json(weight) for weight in side.weights]
    return {
        "name": side.name,
        "rung": side.rung,
        **filled(
            notes=list(side.notes),
            sizes=dict(side.sizes) or None,
            function=None if side.function is None else function_to_json(side.function),
        ),
        "weights": weights,
    }


def _weight_to_json(weight: Weight) -> Json:
    fields: Json = {"name": weight.name, "shape": list(weight.shape), "dtype": weight.dtype, "kind": weight.kind}
    return {**fields, **filled(aliases=list(weight.aliases))}


def _pairing_to_json(chain: LayerPairing) -> Json:
    return {
        "source": chain.source,
        "target": chain.target,
        "source_depth": chain.source_depth,
        "policy": chain.policy,
        "layers": list(chain.layers),
    }


def _entry_to_json(entry: Entry) -> Json:
    return {
        "target": entry.target,
        "shape": list(entry.shape),
        "dtype": entry.dtype,
        "status": entry.status,
        **filled(expr=None if entry.expr is None else to_json(entry.expr)),
        "evidence": _evidence_to_json(entry.evidence),
    }


def _evidence_to_json(evidence: Evidence) -> Json:
    rivals = [{"sources": list(rival.sources), "reason": rival.reason} for rival in evidence.rivals]
    optional = filled(
        reasons=list(evidence.reasons),
        cost=None if evidence.cost is None else number_to_json(evidence.cost),
        margin=None if evidence.margin is None else number_to_json(evidence.margin),
        rivals=rivals,
        resized=list(evidence.resized),
        source_layer=evidence.source_layer,
        shown=None if evidence.shown is None else _shown_to_json(evidence.shown),
    )
    return {"method": evidence.method, **optional}


def _shown_to_json(shown: Shown) -> Json:
    return {"elements": shown.elements, "of": shown.of, "reason": shown.reason}


# Reading


def _record(members: Members) -> MappingRecord:
    verdict = members.take_or("verdict", one_of(*VERDICTS), None)
    not_run, next_step = members.take_or("not_run", string, ""), members.take_or("next_step", string, "")
    source, target = members.take("source", _side), members.take("target", _side)
    chains = members.take_or("chains", items(_pairing), ())
    notes = members.take_or("notes", items(string), ())
    proof = members.take_or("proof", proof_from_json, None)
    entries = members.take("entries", items(_entry))
    members.close()
    record = MappingRecord(source, target, entries, chains, notes, proof, not_run, next_step)
    if verdict not in (None, record.verdict):
        raise MappingFormatError(f"$.verdict: {verdict!r}, but proof and entries say {record.verdict!r}")
    return record


def _side(value: object, where: str) -> Side:
    members = Members.of(value, where)
    side, rung = members.take("name", string), members.take("rung", one_of(*RUNGS))
    notes = members.take_or("notes", items(string), ())
    sizes = members.take_or("sizes", numbers, ())
    weights = members.take("weights", items(_weight))
    function = members.take_or("function", function_from_json, None)
    members.close()
    return Side(side, cast(Rung, rung), weights, notes, sizes, function)


def _weight(value: object, where: str) -> Weight:
    members = Members.of(value, where)
    key, size, dtype = members.take("name", name), members.take("shape", shape), members.take("dtype", _dtype)
    kind = members.take_or("kind", one_of(*KINDS), "tensor")
    aliases = members.take_or("aliases", items(name), ())
    members.close()
    return Weight(key, size, dtype, cast('Literal["parameter", "buffer", "tensor"]', kind), aliases)


def _pairing(value: object, where: str) -> LayerPairing:
    members = Members.of(value, where)
    source, target = members.take("source", string), members.take("target", string)
    depth, policy = members.take("source_depth", natural), members.take("policy", name)
    layers = members.take("layers", items(natural))
    members.close()
    absent = sorted({layer for layer in layers if layer >= depth})
    if absent:
        raise MappingFormatError(f"{where}.layers: {absent} are named, but there are {depth} source layers, from 0")
    return LayerPairing(source, target, depth, policy, layers)


def _entry(value: object, where: str) -> Entry:
    members = Members.of(value, where)
    target, size, dtype = members.take("target", name), members.take("shape", shape), members.take("dtype", _dtype)
    status = members.take("status", one_of(*STATUSES))
    expr = members.take_or("expr", from_json, None)
    evidence = members.take("evidence", _evidence)
    members.close()
    try:
        return Entry(target, size, dtype, cast(Status, status), expr, evidence)
    except ValueError as error:
        raise MappingFormatError(f"{where}: {error}") from None


def _evidence(value: object, where: str) -> Evidence:
    members = Members.of(value, where)
    method = members.take("method", one_of(*METHODS))
    reasons = members.take_or("reasons", items(string), ())
    cost, margin = members.take_or("cost", number, None), members.take_or("margin", number, None)
    rivals = members.take_or("rivals", items(_rival), ())
    resized = members.take_or("resized", items(string), ())
    layer = members.take_or("source_layer", natural, None)
    shown = members.take_or("shown", _shown, None)
    members.close()
    return Evidence(cast(Method, method), reasons, cost, margin, rivals, resized, layer, shown)


def _shown(value: object, where: str) -> Shown:
    members = Members.of(value, where)
    elements, total = members.take("elements", natural), members.take("of", natural)
    reason = members.take("reason", string)
    members.close()
    if elements > total:
        raise MappingFormatError(f"{where}.elements: {elements} were shown, of {total}")
    return Shown(elements, total, reason)


def _rival(value: object, where: str) -> Rival:
    members = Members.of(value, where)
    sources, reason = members.take("sources", items(name)), members.take("reason", string)
    members.close()
    return Rival(sources, reason)


def _dtype(value: object, where: str) -> str:
    # Which names exist is torch's to say, and grows; whatever is no name of this form is damage.
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", value):
        raise fault(where, 'a dtype such as "float32"', value)
    return value


# What no single value shows: parts of the file that contradict one another


def _contradictions(record: MappingRecord) -> Iterator[str]:
    source, target = _by_key(record.source), _by_key(record.target)
    targets = [entry.target for entry in record.entries]
    known = set(targets)
    yield from _repeated("$.source.weights", _keys(record.source))
    yield from _repeated("$.target.weights", _keys(record.target))
    yield from _repeated("$.entries", targets)
    yield from (f"$.entries: {key!r} of $.target.weights has no entry" for key in target if key not in known)
    for index, entry in enumerate(record.entries):
        yield from _against_proof(entry, f"$.entries[{index}]")
        yield from _against_target(entry, target.get(entry.target), f"$.entries[{index}]")
        for leaf in () if entry.expr is None else source_leaves(entry.expr):
            yield from _against_source(leaf, source.get(leaf.key), f"$.entries[{index}].expr")


def _against_target(entry: Entry, weight: Weight | None, where: str) -> Iterator[str]:
    if weight is None:
        yield f"{where}.target: {entry.target!r} is not in $.target.weights"
        return
    if weight.shape != entry.shape:
        yield f"{where}.shape: {list(entry.shape)}, but $.target.weights has {entry.target!r} as {list(weight.shape)}"
    if weight.dtype != entry.dtype:
        yield f"{where}.dtype: {entry.dtype}, but $.target.weights has {entry.target!r} as {weight.dtype}"


def _against_proof(entry: Entry, where: str) -> Iterator[str]:
    shown = entry.evidence.shown
    if shown is not None and shown.of != prod(entry.shape):
        yield f"{where}.evidence.shown.of: {shown.of}, but the weight has {prod(entry.shape)} elements"
    if shown is not None and entry.status == "proved" and not shown.whole:
        yield f"{where}.status: proved, but {shown.elements} of {shown.of} elements were shown"


def _against_source(leaf: Source, weight: Weight | None, where: str) -> Iterator[str]:
    if weight is None:
        yield f"{where}: source {leaf.key!r} is not in $.source.weights"
    elif weight.shape != leaf.shape:
        yield (
            f"{where}: source {leaf.key!r} of shape {list(leaf.shape)}, but $.source.weights has {list(weight.shape)}"
        )


def _repeated(where: str, keys: list[str]) -> Iterator[str]:
    yield from (f"{where}: {key!r} occurs {count} times" for key, count in Counter(keys).items() if count > 1)


def _keys(side: Side) -> list[str]:
    return [key for weight in side.weights for key in weight.keys]


def _by_key(side: Side) -> dict[str, Weight]:
    return {key: weight for weight in side.weights for key in weight.keys}
