"""Docstrings, signatures and imports of emitted modules."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence

from automatch.exporters.code import INDENT, WIDTH, plain
from automatch.rules.ruleset import RuleSet

ABSTRACT = ("Callable", "Collection", "Iterable", "Iterator", "Mapping", "Sequence")


def docstring(paragraphs: Sequence[str], depth: int) -> str:
    """A docstring; paragraphs of one line are folded."""
    pad = INDENT * depth
    first, *rest = paragraphs
    folded = [each if "\n" in each else textwrap.fill(each, WIDTH - len(pad)) for each in (f'"""{first}', *rest)]
    lines = [f"{pad}{line}".rstrip() for line in "\n\n".join(folded).split("\n")]
    if len(lines) == 1 and len(lines[0]) + 3 <= WIDTH:
        return f'{lines[0]}"""'
    return "\n".join([*lines, f'{pad}"""'])


def head(rules: RuleSet, further: Sequence[str]) -> str:
    """A module's docstring: from what to what, and what its rules' notes say."""
    source, target = plain(rules.source) or "the source", plain(rules.target) or "the target"
    notes = [f"Note: {plain(note)}" for note in rules.notes]
    return docstring(["Conversion of weights.", f"From {source} to {target}.", *further, *notes], 0)


def left_out(rules: RuleSet) -> list[str]:
    """A paragraph on the target's weights that are not made; none where all are."""
    left = [rule for rule in rules.rules if rule.term is None]
    if not left:
        return []
    keys = "\n".join(item(f"- {rule.target}: {rule.reason or 'undetermined'}", "", "  ") for rule in left)
    return [f"Left out, because nothing is known of what they are made of:\n\n{keys}"]


def section(title: str, entries: Sequence[str]) -> str:
    """A section of a docstring."""
    return f"{title}:\n" + "\n".join(item(entry, INDENT, INDENT * 2) for entry in entries)


def item(text: str, pad: str, further: str) -> str:
    """Text folded, its first line and the further ones indented."""
    width = WIDTH - 8
    return textwrap.fill(
        plain(text),
        width,
        initial_indent=pad,
        subsequent_indent=further,
        break_long_words=False,
        break_on_hyphens=False,
    )


def signature(name: str, parameters: Sequence[str], returns: str) -> list[str]:
    """The head of a function, opened where it is too long."""
    line = f"def {name}({', '.join(parameters)}) -> {returns}:"
    if len(line) <= WIDTH:
        return [line]
    return [f"def {name}(", *(f"{INDENT}{parameter}," for parameter in parameters), f") -> {returns}:"]


def abstract(code: str) -> list[str]:
    """The import of the abstract collections that some code mentions."""
    names = [name for name in ABSTRACT if re.search(rf"\b{name}\b", code)]
    return [f"from collections.abc import {', '.join(names)}"] if names else []
