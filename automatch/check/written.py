"""A mapping as an expectation file, for `--update`: a line for every rule, in the target's order.

The bytes are stable: the same mapping gives the same file, and an entry that changes changes its own line. Only where
some layers change and others do not, the line that stood for all of them is written out layer by layer.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from collections.abc import Mapping as MappingABC
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeAlias

from automatch.check.compare import check, uniform_value
from automatch.check.expected import FORMAT, VERSION
from automatch.check.wording import form_of
from automatch.core import mapping_json
from automatch.core.expr import text as expr_text
from automatch.core.files import replacing
from automatch.core.json_fields import number_to_json, parse
from automatch.core.mapping import Entry, MappingRecord
from automatch.core.mapping_file import read_text
from automatch.errors import MappingError, together
from automatch.rules.generalise import VARIABLES, Column, Rule, generalise
from automatch.rules.template import split

Value: TypeAlias = dict[str, str | float] | None

_VARIABLE = re.compile(r"\{(\w+)\}")
_PAIRED = re.compile(r"\{layers\[(\w+)\]\}")


@dataclass(frozen=True, slots=True)
class _Variable:
    """A variable of one line: how many values it has, and the source layers it stands for where it is in a source."""

    name: str
    size: int
    layers: Column | None


@dataclass(frozen=True, slots=True)
class _Line:
    target: str
    value: Value
    variables: tuple[_Variable, ...] = ()


def update(record: MappingRecord, path: str | os.PathLike[str]) -> bool:
    """Make an expectation file say what a mapping has. One that the mapping meets is left as it is.

    Args:
        record: The mapping.
        path: The file; it appears whole or not at all, and need not exist.

    Returns:
        Whether the file was written.

    Raises:
        MappingFormatError: The file that is there is damaged.
        MappingError: It is a mapping file, its folder does not exist, or the mapping cannot be written as one.
    """
    if Path(path).exists():
        if check(record, path).ok:
            return False
        _refuse_mapping_file(path)
    content = written(record)
    with replacing(path, MappingError) as temporary:
        temporary.write_bytes(content.encode())
    return True


def written(record: MappingRecord) -> str:
    """The content of an expectation file that a mapping meets, and no mapping of other expressions does.

    Raises:
        MappingError: Its keys have braces, which stand for variables in the file.
    """
    braced = [key for entry in record.entries for key in (entry.target, *entry.sources) if "{" in key]
    if braced:
        headline = "braces stand for variables in an expectation; save the mapping as a mapping file. They are in:"
        raise together(MappingError, headline, braced)
    lines = _lines(record)
    names, layers = _named(lines)
    weights = {_renamed(line.target, own): _value(line.value, own) for line, own in zip(lines, names, strict=True)}
    document = {"format": FORMAT, "version": VERSION, "layers": {k: list(v) for k, v in layers.items()}}
    return _laid_out(document, weights)


def _laid_out(document: MappingABC[str, object], weights: MappingABC[str, Value]) -> str:
    head = [f"  {_json(key)}: {_json(value)}," for key, value in document.items()]
    rows = ",\n".join(f"    {_json(target)}: {_json(value)}" for target, value in weights.items())
    return "\n".join(["{", *head, '  "weights": {', rows, "  }", "}", ""])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _refuse_mapping_file(path: str | os.PathLike[str]) -> None:
    document = parse(read_text(path, "expectation file"), os.fspath(path))
    if isinstance(document, dict) and document.get("format") == mapping_json.FORMAT:
        raise MappingError(f"{path} is a mapping file, not an expectation; save the new mapping there, or delete it")


def _lines(record: MappingRecord) -> list[_Line]:
    """Lines for all entries, in the order of the first key that each stands for."""
    entries = {entry.target: entry for entry in record.entries}
    places = {target: place for place, target in enumerate(entries)}
    found: dict[int, _Line] = {}
    left: dict[object, list[Entry]] = {}
    for rule in generalise(record).rules:
        keys = list(_targets(rule))
        if _variables(rule):
            found[places[keys[0]]] = _line(rule, entries[keys[0]])
            continue
        for key in keys:
            # the layers of `blocks.0.mlp.0` and `blocks.0.mlp.2` vary along with a second number; each may be a line
            template, numbers = split(key)
            left.setdefault((template, numbers[1:]), []).append(entries[key])
    parts = [replace(record, entries=tuple(group)) for group in left.values()]
    for rule in (rule for part in parts for rule in generalise(part).rules):
        keys = list(_targets(rule))
        if _variables(rule):
            found[places[keys[0]]] = _line(rule, entries[keys[0]])
        else:
            found |= {places[key]: _plain(entries[key]) for key in keys}
    return [found[place] for place in sorted(found)]


def _line(rule: Rule, first: Entry) -> _Line:
    return _Line(rule.target, _made(first, _PAIRED.sub(r"{\1}", rule.expression)), _variables(rule) or ())


def _plain(entry: Entry) -> _Line:
    return _Line(entry.target, _made(entry, "" if entry.expr is None else expr_text(entry.expr)))


def _targets(rule: Rule) -> Iterator[str]:
    names = [name for name, _ in rule.variables]
    for numbers in product(*(values for _, values in rule.variables)):
        yield _renamed(rule.target, {name: str(number) for name, number in zip(names, numbers, strict=True)}, "")


def _variables(rule: Rule) -> tuple[_Variable, ...] | None:
    """The rule's variables, as a line can have them: they count from 0, and stand for one layer each."""
    equal, paired = set(_VARIABLE.findall(rule.expression)), set(_PAIRED.findall(rule.expression))
    if equal & paired or any(values != tuple(range(len(values))) for _, values in rule.variables):
        return None
    return tuple(
        _Variable(name, len(values), rule.layers if name in paired else values if name in equal else None)
        for name, values in rule.variables
    )


def _made(entry: Entry, text: str) -> Value:
    if entry.expr is None:
        return None
    constant = uniform_value(entry.expr)
    if constant is not None:
        return {"constant": number_to_json(constant)}
    form = form_of(entry.expr)
    return {"is": text, "form": form} if form else {"is": text}


def _named(lines: list[_Line]) -> tuple[list[dict[str, str]], dict[str, Column]]:
    """For every line the file's names of its variables, and the layers that each name stands for."""
    layers: dict[str, Column] = {}
    names: list[dict[str, str]] = [{} for _ in lines]
    # Names that no source has take whatever list is as long, so the lists that sources need come first.
    for free in (False, True):
        for line, own in zip(lines, names, strict=True):
            for variable in line.variables:
                if (variable.layers is None) is free:
                    own[variable.name] = _name(variable, layers, set(own.values()))
    return names, layers


def _name(variable: _Variable, layers: dict[str, Column], taken: set[str]) -> str:
    for name, column in layers.items():
        fits = len(column) == variable.size if variable.layers is None else column == variable.layers
        if fits and name not in taken:
            return name
    name = VARIABLES[len(layers)] if len(layers) < len(VARIABLES) else f"v{len(layers)}"
    layers[name] = tuple(range(variable.size)) if variable.layers is None else variable.layers
    return name


def _value(value: Value, names: MappingABC[str, str]) -> Value:
    if value is None or "is" not in value:
        return value
    return value | {"is": _renamed(str(value["is"]), names)}


def _renamed(text: str, names: MappingABC[str, str], brackets: str = "{}") -> str:
    before, after = brackets[:1], brackets[1:]
    return _VARIABLE.sub(lambda found: f"{before}{names.get(found[1], found[1])}{after}", text)
