"""`automatch rules` and `automatch adapt`: from mappings to rules, and from rules to a mapping."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from automatch.cli import statuses
from automatch.cli.console import show, warnings_as_lines
from automatch.cli.gathering import gathered
from automatch.cli.matching import writable
from automatch.cli.sides import make, request
from automatch.errors import RulesError, together
from automatch.from_rules import adapt as adapted
from automatch.mapping import load
from automatch.report.summary import summary
from automatch.rules.ruleset import RuleSet


def learn(mappings: Sequence[Path], output: Path | None, sizes: Sequence[str] = ()) -> None:
    """Learn rules from mapping files, and print or write them.

    Raises:
        AutomatchError: Files cannot be read, or the output has nowhere to go; all of it is said.
    """
    steps: list[Any] = [partial(load, path) for path in mappings]
    steps += [partial(given, sizes), *([partial(writable, output)] if output is not None else [])]
    found = gathered(steps)
    first, *more = found[: len(mappings)]
    with warnings_as_lines():
        rules = first.rules(*more, sizes=found[len(mappings)])
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
        partial(given, sizes),
        partial(writable, output),
    ]
    chosen, ours, theirs, known, _ = gathered(steps)
    mapping = adapted(chosen, ours, theirs, sizes=known)
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


def given(words: Sequence[str]) -> dict[str, int | str]:
    """Sizes from `name=number` or `name=reading`.

    Raises:
        RulesError: A word is neither; all of them are listed.
    """
    found: dict[str, int | str] = {}
    problems: list[str] = []
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name and value:
            found[name] = int(value) if value.isascii() and value.isdecimal() else value
        else:
            problems.append(repr(word))
    if problems:
        raise together(
            RulesError, "--size is written as heads=32 or heads=source.config.num_heads; this is not:", problems
        )
    return found
