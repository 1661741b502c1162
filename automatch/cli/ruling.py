"""`automatch rules` and `automatch adapt`: from mappings to rules, and from rules to a mapping."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from automatch.cli import statuses
from automatch.cli.console import show
from automatch.cli.gathering import gathered
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
        AutomatchError: Files cannot be read, or the output has nowhere to go; all of it is said.
    """
    steps: list[Any] = [partial(load, path) for path in mappings]
    first, *more = gathered([*steps, *([partial(writable, output)] if output is not None else [])])[: len(mappings)]
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
        AutomatchError: The rules, a model or a size cannot be read, or the rules do not fit; all of it is said.
    """
    steps: list[Any] = [
        partial(RuleSet.load, rules),
        lambda: made("source", source),
        lambda: made("target", target),
        partial(_sizes, sizes),
        partial(writable, output),
    ]
    chosen, ours, theirs, given, _ = gathered(steps)
    mapping = adapted(chosen, ours, theirs, sizes=given)
    mapping.save(output)
    show(summary(mapping.record))
    print(f"\nwrote {output}")
    return statuses.of(statuses.left_open(mapping.record))


def made(which: Any, reference: str) -> Any:
    """A model by its reference: a checkpoint's path as it is, a factory's model on the meta device.

    Raises:
        AutomatchError: The reference names nothing, or the factory fails.
    """
    return make(request(which, reference, None, ()), "meta")[0]


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
