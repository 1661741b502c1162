"""One known conversion: proved rules, and the keys, shapes and sizes of the two models that they were learned from.

The file is a rules file (`docs/rules.md`) with three further tables: `[known]`, `[source_side]` and `[target_side]`.
"""

from __future__ import annotations

import json
import os
import tomllib
from dataclasses import dataclass, replace

from automatch.core.graph import Weight
from automatch.core.json_fields import Members, faults_of, integer, items, shape, string
from automatch.core.mapping import MappingRecord, Side
from automatch.errors import MappingFormatError, RulesError, together
from automatch.interruption import let_through
from automatch.rules import file as rules_file
from automatch.rules.adapt import adapt
from automatch.rules.learn import learn
from automatch.rules.ruleset import RuleSet


@dataclass(frozen=True, slots=True)
class Known:
    """A conversion that is known.

    Attributes:
        name: What it is called (`hf-llama to litgpt`).
        family: The architecture; conversions of one family tell much about each other.
        proof: What showed it.
        rules: The rules.
        source: Keys, shapes and sizes of the source that they were learned from.
        target: The same of the target.
    """

    name: str
    family: str
    proof: str
    rules: RuleSet
    source: Side
    target: Side

    @property
    def record(self) -> MappingRecord:
        """The mapping between the two models that the rules were learned from."""
        return adapt(self.rules, self.source, self.target)


def known_of(record: MappingRecord, name: str, family: str) -> Known:
    """A known conversion from a mapping.

    Args:
        record: The mapping.
        name: What to call it.
        family: The architecture.

    Raises:
        RulesError: No run proved the mapping, or its rules do not give it again.
    """
    proof = record.proof
    if proof is None or proof.outcome != "agree":
        reason = "it was not run" if proof is None else proof.reason
        raise RulesError(f"{name}: only what a run proved is kept as known; {reason}.\nNext: prove the mapping first.")
    rules = learn(record)
    shown = sum(entry.status == "proved" for entry in record.entries)
    said = f"{shown} of {len(record.entries)} weights proved in {proof.draws} draws"
    return Known(name, family, said, rules, _bare(record.source), _bare(record.target))


def _bare(side: Side) -> Side:
    """A side as a file keeps it: nothing but keys, ties and shapes."""
    weights = tuple(Weight(weight.name, weight.shape, "float32", aliases=weight.aliases) for weight in side.weights)
    return Side(side.name, "names", weights, (), side.sizes)


def dumps(known: Known) -> str:
    """The text of a known conversion."""
    head = [f"{key} = {_quoted(value)}" for key, value in _about(known).items()]
    sections = [rules_file.dumps(known.rules).rstrip("\n"), "\n".join(["[known]", *head])]
    for label, side in (("source", known.source), ("target", known.target)):
        lines = [f"{_quoted(weight.name)} = {list(weight.shape)}" for weight in side.weights]
        sections.append("\n".join([f"[{label}_side.weights]", *lines]))
        ties = [f"{_quoted(w.name)} = {json.dumps(w.aliases)}" for w in side.weights if w.aliases]
        if ties:
            sections.append("\n".join([f"[{label}_side.ties]", *ties]))
        if side.sizes:
            sizes = [f"{_quoted(path)} = {value}" for path, value in side.sizes]
            sections.append("\n".join([f"[{label}_side.sizes]", *sizes]))
    return "\n\n".join(sections) + "\n"


def _about(known: Known) -> dict[str, str]:
    return {"name": known.name, "family": known.family, "proof": known.proof}


def _quoted(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def loads(text: str, where: str) -> Known:
    """Read the text of a known conversion.

    Raises:
        RulesError: It is damaged; all faults are listed.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RulesError(f"{where}: not TOML: {error}; mend the file or make it again") from None
    extra = {key: document.pop(key, {}) for key in ("known", "source_side", "target_side")}
    rules = rules_file.from_document(document, where)
    try:
        name, family, proof = _about_from(Members.of(extra["known"], "$.known"))
        source = _side(extra["source_side"], "$.source_side", rules.source)
        target = _side(extra["target_side"], "$.target_side", rules.target)
    except MappingFormatError as error:
        raise together(RulesError, f"{where}: the known conversion is damaged:", faults_of(error)) from None
    return Known(name, family, proof, rules, source, target)


def read(path: str | os.PathLike[str]) -> Known:
    """Read a file; see `loads`.

    Raises:
        RulesError: It cannot be read, or is damaged.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return loads(file.read(), os.fspath(path))
    except (OSError, UnicodeDecodeError) as error:
        let_through(error)
        raise RulesError(f"{os.fspath(path)} cannot be read: {error}") from None


def _about_from(members: Members) -> tuple[str, str, str]:
    name, family = members.take("name", string), members.take("family", string)
    proof = members.take("proof", string)
    members.close()
    return name, family, proof


def _side(value: object, where: str, name: str) -> Side:
    members = Members.of(value, where)
    weights = members.take("weights", _weights)
    ties = members.take_or("ties", _ties, {})
    sizes = members.take_or("sizes", _sizes, ())
    members.close()
    tied = tuple(replace(weight, aliases=ties.get(weight.name, ())) for weight in weights)
    return Side(name, "names", tied, (), sizes)


def _ties(value: object, where: str) -> dict[str, tuple[str, ...]]:
    members = Members.of(value, where)
    found = {key: members.take(key, items(string)) for key in list(members.left)}
    members.close()
    return found


def _weights(value: object, where: str) -> tuple[Weight, ...]:
    members = Members.of(value, where)
    found = tuple(Weight(key, members.take(key, shape), "float32") for key in list(members.left))
    members.close()
    return found


def _sizes(value: object, where: str) -> tuple[tuple[str, int], ...]:
    members = Members.of(value, where)
    found = tuple((path, members.take(path, integer)) for path in list(members.left))
    members.close()
    return found
