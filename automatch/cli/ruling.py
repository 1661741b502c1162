"""`automatch rules` and `automatch adapt`: from mappings to rules, and from rules to a mapping."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from automatch.cli.console import show
from automatch.cli.matching import writable
from automatch.cli.sides import make, request
from automatch.errors import RulesError, together
from automatch.from_rules import adapt as adapted
from automatch.mapping import load
from automatch.report.summary import summary
from automatch.rules.ruleset import RuleSet


def learn(mappings: Sequence[Path], output: Path | None) -> None:
    """Learn rules from mapping files, and print or write them.

    Raises:
        AutomatchError: A file cannot be read, or the output has nowhere to go.
    """
    if output is not None:
        writable(output)
    first, *more = map(load, mappings)
    rules = first.rules(*more)
    if output is None:
        print(rules, end="")
        return
    rules.save(output)
    print(f"{len(rules.rules)} rules for {len(first):,} weights, {len(rules.sizes)} sizes")
    for note in rules.notes:
        print(f"  note: {note}")
    print(f"wrote {output}")


def adapt(rules: Path, source: str, target: str, output: Path, sizes: Sequence[str]) -> int:
    """Carry rules over to two models; gives the exit status: 1 where weights are left undetermined.

    Raises:
        AutomatchError: The rules or a model cannot be read, or the rules do not fit.
    """
    writable(output)
    given = _sizes(sizes)
    chosen = RuleSet.load(rules)
    sides = [request("source", source, None, (), "meta"), request("target", target, None, (), "meta")]
    models = [make(side)[0] for side in sides]
    mapping = adapted(chosen, models[0], models[1], sizes=given)
    mapping.save(output)
    show([*summary(mapping.record), f"\nwrote {output}"])
    return 0 if all(entry.expr is not None for entry in mapping.entries) else 1


def _sizes(words: Sequence[str]) -> dict[str, int]:
    """Sizes from `name=number`."""
    found: dict[str, int] = {}
    problems: list[str] = []
    for word in words:
        name, equals, number = word.partition("=")
        if equals and name and number.isascii() and number.isdecimal():
            found[name] = int(number)
        else:
            problems.append(repr(word))
    if problems:
        raise together(RulesError, "--size is written as heads=32; this is not:", problems)
    return found
