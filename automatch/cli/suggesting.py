"""`automatch suggest` and `automatch remember`: what is known of other models, and adding to it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from automatch.cli.console import show
from automatch.cli.matching import writable
from automatch.cli.sides import make, request
from automatch.core.files import replacing
from automatch.errors import RulesError
from automatch.known.known import dumps, known_of
from automatch.mapping import load
from automatch.report.suggestion import suggestion_report
from automatch.suggesting import suggest


def run(source: str, target: str | None, output: Path | None, rules: Path | None, library: Sequence[Path]) -> int:
    """Suggest a mapping, print the ranking and write drafts; gives the exit status: 1 where keys are uncovered.

    Raises:
        AutomatchError: A model or a file cannot be read, an output has nowhere to go, or nothing is known.
    """
    for file in (output, rules):
        if file is not None:
            writable(file)
    sides = [request("source", source, None, (), "meta")]
    sides += [request("target", target, None, (), "meta")] if target is not None else []
    models = [make(side)[0] for side in sides]
    found = suggest(*models, library=library)
    written: list[str] = []
    if output is not None:
        from automatch.mapping import Mapping

        Mapping(found.draft).save(output)
        written.append(f"\nwrote {output}")
    if rules is not None:
        found.rules().save(rules)
        written.append(f"\nwrote {rules}")
    show([*suggestion_report(found), *written])
    return 1 if found.uncovered else 0


def remember(mapping: Path, name: str, family: str, output: Path) -> None:
    """Write a proved mapping as a known conversion.

    Raises:
        AutomatchError: The mapping cannot be read or was not proved, or the output has nowhere to go.
    """
    writable(output)
    known = known_of(load(mapping).record, name, family)
    with replacing(output, RulesError) as temporary:
        temporary.write_bytes(dumps(known).encode())
    print(f"{len(known.rules.rules)} rules, {known.proof}\nwrote {output}")
