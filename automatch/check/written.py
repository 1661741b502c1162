"""A mapping as an expectation file, for `--update`: a line for all layers where there is one, in the target's order.

The bytes are stable: the same mapping gives the same file, and an entry that changes changes its own line. Only where
some layers change and others do not, the line that stood for all of them is written out layer by layer.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping as MappingABC
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from automatch.check.compare import check, uniform_value
from automatch.check.expected import FORMAT, VERSION
from automatch.check.lines import VARIABLES, Column, Line, Variable, lines
from automatch.check.proved import GOOD, unproved_lines
from automatch.check.wording import form_of
from automatch.core import mapping_json
from automatch.core.files import replacing
from automatch.core.json_fields import number_to_json, parse
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_file import read_text
from automatch.core.proof_json import function_to_json
from automatch.errors import MappingError, together

Value: TypeAlias = dict[str, str | float] | None

_VARIABLE = re.compile(r"\{(\w+)\}")


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
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with replacing(path, MappingError) as temporary:
        temporary.write_bytes(content.encode())
    return True


def written(record: MappingRecord) -> str:
    """The content of an expectation file that a mapping meets, and no mapping of other expressions does.

    Where both models were run under it and agreed, nothing meets it of which that was not shown, or that was shown of
    other functions.

    Raises:
        MappingError: Its keys have braces, which stand for variables in the file.
    """
    braced = [key for entry in record.entries for key in (entry.target, *entry.sources) if "{" in key]
    if braced:
        headline = "braces stand for variables in an expectation; save the mapping as a mapping file. They are in:"
        raise together(MappingError, headline, braced)
    found = lines(record.entries)
    unproved = unproved_lines(record.entries) if record.verdict in GOOD else ()
    names, layers = _named((*found, *unproved))
    document = {"format": FORMAT, "version": VERSION, "layers": {k: list(v) for k, v in layers.items()}}
    patterns = [_renamed(line.target, own) for line, own in zip(unproved, names[len(found) :], strict=True)]
    weights = {_renamed(line.target, own): _value(line, own) for line, own in zip(found, names, strict=False)}
    return _laid_out(document, _proof(record, patterns), weights)


def _proof(record: MappingRecord, not_proved: Sequence[str]) -> dict[str, object]:
    """What was shown of the mapping; empty where nothing was."""
    if record.verdict not in GOOD:
        return {}
    sides = {"source": record.source.function, "target": record.target.function}
    return {
        "verdict": record.verdict,
        **({"not_proved": list(not_proved)} if not_proved else {}),
        **{label: function_to_json(function) for label, function in sides.items() if function is not None},
    }


def _laid_out(
    document: MappingABC[str, object], proof: MappingABC[str, object], weights: MappingABC[str, Value]
) -> str:
    head = [f"  {_json(key)}: {_json(value)}," for key, value in document.items()]
    shown = [*_block("proved", proof)[:-1], "  },"] if proof else []
    return "\n".join(["{", *head, *shown, *_block("weights", weights), "}", ""])


def _block(name: str, members: MappingABC[str, object]) -> list[str]:
    """The lines of a member that is an object, with a line for each member of its own."""
    rows = ",\n".join(f"    {_json(key)}: {_json(value)}" for key, value in members.items())
    return [f"  {_json(name)}: {{", rows, "  }"]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _refuse_mapping_file(path: str | os.PathLike[str]) -> None:
    document = parse(read_text(path, "expectation file"), os.fspath(path))
    if isinstance(document, dict) and document.get("format") == mapping_json.FORMAT:
        raise MappingError(f"{path} is a mapping file, not an expectation; save the new mapping there, or delete it")


def _named(found: Sequence[Line]) -> tuple[list[dict[str, str]], dict[str, Column]]:
    """For every line the file's names of its variables, and the layers that each name stands for."""
    layers: dict[str, Column] = {}
    names: list[dict[str, str]] = [{} for _ in found]
    # Names that no source has take whatever list is as long, so the lists that sources need come first.
    for free in (False, True):
        for line, own in zip(found, names, strict=True):
            for variable in line.variables:
                if (variable.layers is None) is free:
                    own[variable.name] = _name(variable, layers, set(own.values()))
    return names, layers


def _name(variable: Variable, layers: dict[str, Column], taken: set[str]) -> str:
    for name, column in layers.items():
        fits = len(column) == variable.size if variable.layers is None else column == variable.layers
        if fits and name not in taken:
            return name
    name = VARIABLES[len(layers)] if len(layers) < len(VARIABLES) else f"v{len(layers)}"
    layers[name] = tuple(range(variable.size)) if variable.layers is None else variable.layers
    return name


def _value(line: Line, names: MappingABC[str, str]) -> Value:
    expr = line.entries[0].expr
    if expr is None:
        return None
    constant = uniform_value(expr)
    if constant is not None:
        return {"constant": number_to_json(constant)}
    form = form_of(expr)
    made = _renamed(line.text, names)
    return {"is": made, "form": form} if form else {"is": made}


def _renamed(text: str, names: MappingABC[str, str]) -> str:
    return _VARIABLE.sub(lambda found: f"{{{names.get(found[1], found[1])}}}", text)
