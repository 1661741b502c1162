"""`automatch suggest` and `automatch remember`: what is known of other models, and adding to it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from automatch.cli import statuses
from automatch.cli.console import show
from automatch.cli.gathering import gathered
from automatch.cli.matching import writable
from automatch.cli.ruling import made
from automatch.core.files import replacing
from automatch.errors import RulesError
from automatch.known.known import dumps, known_of
from automatch.known.library import library as conversions
from automatch.mapping import load
from automatch.report.suggestion import suggestion_report
from automatch.suggesting import suggestion


def run(source: str, target: str | None, output: Path | None, rules: Path | None, library: Sequence[Path]) -> int:
    """Suggest a mapping, print the ranking and write drafts; gives the exit status: 1 where keys are uncovered.

    Raises:
        AutomatchError: A model or a file cannot be read, an output has nowhere to go, or nothing is known.
    """
    steps: list[Any] = [lambda: made("source", source), partial(conversions, library)]
    steps += [lambda: made("target", target)] if target is not None else []
    steps += [partial(writable, file) for file in (output, rules) if file is not None]
    ours, known, *rest = gathered(steps)
    found = suggestion(ours, rest[0] if target is not None else None, known)
    written: list[str] = []
    if output is not None:
        from automatch.mapping import Mapping

        Mapping(found.draft).save(output)
        written.append(f"\nwrote {output}")
    if rules is not None:
        found.rules().save(rules)
        written.append(f"\nwrote {rules}")
    show(suggestion_report(found))
    print("".join(written), end="\n" if written else "")
    unmade = f"{len(found.missing):,} patterns of keys that the rules speak of need a target" if found.missing else ""
    return statuses.of(statuses.left_open(found.draft) or unmade)


def remember(mapping: Path, name: str, family: str, output: Path) -> None:
    """Write a proved mapping as a known conversion.

    Raises:
        AutomatchError: The mapping cannot be read or was not proved, or the output has nowhere to go.
    """
    read: list[Any] = gathered([partial(load, mapping), partial(writable, output)])
    known = known_of(read[0].record, name, family)
    with replacing(output, RulesError) as temporary:
        temporary.write_bytes(dumps(known).encode())
    print(f"{len(known.rules.rules)} rules, {known.proof}\nwrote {output}")
