"""Rules as `WeightRenaming` and `WeightConverter` of transformers 5, to load and save original checkpoints.

What the library's operations do exactly is left to them: renaming, transposing, lists of experts stacked, and such
lists joined. For the rest the module brings an operation of its own, which is a function and is undone entry by entry.
`PermuteForRope` is not used: it takes the number of query heads for keys as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from automatch.errors import RulesError, together
from automatch.exporters import helpers, runtime
from automatch.exporters.code import INDENT, Atom, Call, Node, Text, flat, statement
from automatch.exporters.documents import abstract, docstring, head, left_out, section, signature
from automatch.exporters.keytext import overlap
from automatch.exporters.making import Making
from automatch.exporters.units import Unit, starred, texts, units
from automatch.rules.formula import Name
from automatch.rules.pattern import Hole, Pattern
from automatch.rules.ruleset import RuleSet
from automatch.rules.terms import Join, Key, Term, Transpose

LIBRARY = (
    "Concatenate",
    "ConversionOps",
    "MergeModulelist",
    "Transpose",
    "WeightConverter",
    "WeightRenaming",
    "WeightTransform",
)


def to_transformers(rules: RuleSet) -> str:
    """A module whose `register` has `from_pretrained` read the source's checkpoints, and `save_pretrained` write them.

    Raises:
        RulesError: Some rules cannot be said so; all are listed.

    Example:
        >>> from automatch.rules.file import loads
        >>> rules = loads('''
        ... format = "automatch.rules"
        ... version = 1
        ... [structural]
        ... "model.layers.{i}.up.weight" = "layers.{i}.mlp.up.weight.T"
        ... ''', "example")
        >>> "operations=[LayerNames(), Transpose(0, 1), LayerNames()]," in to_transformers(rules)
        True
    """
    used = [rule for rule in rules.rules if rule.term is not None]
    found, problems = units(rules.rules)
    if not used:
        problems.append("there is no rule that makes a weight")
    making = Making({size.name: size for size in rules.sizes})
    transforms: list[Node] = []
    for unit in _ordered(found):
        try:
            transforms.append(_transform(unit, found, making))
        except RulesError as error:
            problems.append(f"{unit.targets[0]}: {error}")
    if problems:
        raise together(RulesError, "the rules cannot be written for transformers:", list(dict.fromkeys(problems)))
    return _Text(rules, found, transforms, making).text()


def _ordered(found: Sequence[Unit]) -> list[Unit]:
    """Units that speak of all layers but some first: saving goes backwards, and takes the first that fits."""
    changing = [unit for unit in found if not _same(unit)]
    return sorted(changing, key=lambda unit: not unit.excepted)


def _same(unit: Unit) -> bool:
    """Whether a key stays as it is, and needs no word."""
    return unit.targets == unit.sources and len(unit.rules) == 1 and isinstance(unit.rules[0].term, Key)


def _transform(unit: Unit, found: Sequence[Unit], making: Making) -> Node:
    if unit.offsets:
        return _numbered(unit, found)
    sources = [_pattern(key, unit) for key in unit.sources]
    if _renames(unit) and not _chained(unit, found):
        return Call("WeightRenaming", (Text(sources[0]), Text(_slotted(unit.targets[0]))))
    steps = _library(unit) or (making.operation(unit),)
    if steps[0] != Atom("LayerNames()") and not isinstance(steps[0], Call):
        steps = (Atom("LayerNames()"), *steps, Atom("LayerNames()"))
    return Call(
        "WeightConverter",
        (
            Call("", tuple(map(Text, sources)), "[]"),
            Call("", tuple(Text(_slotted(key)) for key in unit.targets), "[]"),
            Call("operations=", steps, "[]"),
        ),
    )


def _numbered(unit: Unit, found: Sequence[Unit]) -> Node:
    """The renaming of our own for keys with several numbers."""
    if len(unit.rules) > 1 or _chained(unit, found):
        raise RulesError("the key that it gets would be taken for another's source")
    names = [Text(f'"{key}"') for key in (_plain(unit.sources[0]), unit.targets[0])]
    return Call("NumberedRenaming", (*names, *(Atom(f"{name}={by}") for name, by in unit.offsets if by)))


def _plain(key: Pattern) -> Pattern:
    """A key with variables in the places of its formulas."""
    pieces = (piece if isinstance(piece, str) else Hole(Name(Pattern((piece,)).variables[0])) for piece in key.pieces)
    return Pattern(tuple(pieces))


def _renames(unit: Unit) -> bool:
    return len(unit.rules) == 1 and isinstance(unit.rules[0].term, Key)


def _chained(unit: Unit, found: Sequence[Unit]) -> bool:
    """Whether a renamed key would be taken for another unit's source: the library applies all renamings in turn."""
    own = texts(unit, unit.targets)
    others = [text for other in found if other is not unit for text in texts(other, other.sources)]
    return any(overlap(one, other) for one in own for other in others)


# Patterns


def _pattern(key: Pattern, unit: Unit) -> str:
    """The regular expression that finds a source's key, the layer in its group."""
    layer = "(" + "".join(rf"(?!{number}\.)" for number in unit.excepted) + f"{unit.layer})"
    return f'r"^{"".join(_escaped(piece, layer) for piece in key.pieces)}"'


def _slotted(key: Pattern) -> str:
    """A target's key with a slot for the layer; anchored, because saving looks for it."""
    slot = r"\1"
    return f'r"^{"".join(_escaped(piece, slot) for piece in key.pieces)}"'


def _escaped(piece: object, layer: str) -> str:
    if isinstance(piece, Hole):
        return layer
    # around a star the library does the escaping
    return re.sub(r"\\\.\*\\\.", ".*.", str(piece).replace(".", r"\."))


# What the library's operations do


def _library(unit: Unit) -> tuple[Node, ...]:
    """The library's operations that make a unit; none where they do not."""
    if len(unit.rules) > 1 or any(str(key).count("*") > 1 for key in unit.sources):
        return ()
    term = unit.rules[0].term
    assert term is not None
    if isinstance(term, Transpose) and isinstance(term.of, Key) and term.axes == (1, 0):
        return (Atom("Transpose(0, 1)"),)
    stacked = _stacked(term)
    if stacked is None or list(unit.sources) != [starred(key) for key in stacked[0]]:
        return ()
    if any(".*." not in str(key) for key in unit.sources):
        return ()
    _, merged, joined = stacked
    return (Atom(f"MergeModulelist(dim={merged})"), *([] if joined is None else [Atom(f"Concatenate(dim={joined})")]))


def _stacked(term: Term) -> tuple[tuple[Pattern, ...], int, int | None] | None:
    """The keys of a list that is stacked, along which axis, and along which axis several such lists are joined."""
    if not isinstance(term, Join) or term.kind == "interleave":
        return None
    if term.kind == "stack" and term.each and len(term.parts) == 1:
        part = term.parts[0]
        if isinstance(part, Key):
            return (part.pattern,), term.axis, None
        if isinstance(part, Join) and part.kind == "cat" and not part.each:
            read = [each.pattern for each in part.parts if isinstance(each, Key)]
            joined = part.axis + (part.axis >= term.axis)
            return (tuple(read), term.axis, joined) if len(read) == len(part.parts) else None
    inner = [_stacked(part) for part in term.parts] if term.kind == "cat" and not term.each else [None]
    lists = [each for each in inner if each is not None and each[2] is None]
    if len(lists) < len(inner) or len({axis for _, axis, _ in lists}) > 1:
        return None
    return tuple(key for read, _, _ in lists for key in read), lists[0][1], term.axis


# The module


@dataclass(frozen=True, slots=True)
class _Text:
    rules: RuleSet
    units: Sequence[Unit]
    transforms: Sequence[Node]
    making: Making
    written: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The source."""
        parts = [self._register(), self._conversions(), *self.making.functions]
        own = "\n\n\n".join(parts)
        parts += self._operations(own)
        parts += helpers.sources(self.making.helpers)
        code = "\n\n\n".join(parts)
        types = self._types(code)
        return f"{self._head(own)}\n\n{_imports(code + types, own)}\n{types}\n\n{code}\n"

    def _head(self, own: str) -> str:
        about = [
            "Written by automatch from its rules, for transformers 5. After `register`, `from_pretrained` reads "
            "checkpoints with the original names, and `save_pretrained` writes them.",
            *left_out(self.rules),
        ]
        if "undo=" in own:
            about.append("Arithmetic is taken back when saving; what is saved may differ in the last bit.")
        if "lossy=" in own:
            about.append("Some weights can be loaded and not be saved again; see `lossy` below.")
        told = list(self._mistaken())
        if told:
            about.append(
                f"Do not load checkpoints in the model's own format while it is registered: {', '.join(told)} "
                "would be converted a second time."
            )
        return head(self.rules, about)

    def _mistaken(self) -> Iterator[str]:
        """Targets' keys that look like a source's: nobody can tell a converted checkpoint by them."""
        changing = [unit for unit in self.units if not _same(unit)]
        read = [text for unit in changing for text in texts(unit, unit.sources)]
        for unit in self.units:
            yield from (text for text in texts(unit, unit.targets) if any(overlap(text, other) for other in read))

    def _operations(self, own: str) -> list[str]:
        found = []
        if "Rearrange(" in own or "LayerNames(" in own:
            found += [runtime.NAMES.strip(), runtime.SHAPE.strip()]
        found += [runtime.NUMBERED.strip()] if "NumberedRenaming(" in own else []
        found += [runtime.LAYER_NAMES.strip()] if "LayerNames(" in own else []
        found += [runtime.REARRANGE.strip()] if "Rearrange(" in own else []
        return found

    def _types(self, code: str) -> str:
        lines = ["", "Weights = Mapping[str, Any]"] if "Weights" in code else []
        lines += ["Shapes = Mapping[str, Sequence[int]]"] if "Shapes" in code else []
        lines += ["Function = Callable[[Weights, Any, Shapes], dict[str, Tensor]]", ""] if "Function" in code else []
        return "\n".join(lines)

    def _parameters(self) -> list[str]:
        given = [f"{name}: int" for name in self.making.given]
        return ["*", *given] if given else []

    def _register(self) -> str:
        lines = signature("register", ["name: str", *self._parameters()], "None")
        arguments = [
            "name: A model type such as llama, or a class such as LlamaForCausalLM, which the library asks for first."
        ]
        arguments += [f"{name}: A number; {origin}." for name, origin in self.making.given.items()]
        about = docstring(
            ["Have a model's checkpoints loaded and saved in their original form.", section("Args", arguments)], 1
        )
        given = tuple(Atom(f"{name}={name}") for name in self.making.given)
        call = statement("found = ", Call("conversions", given), 1, flat)
        kept = f"{INDENT}# What the library has comes after it, for checkpoints in its own format."
        more = f"{INDENT}found += get_checkpoint_conversion_mapping(name) or []"
        last = f"{INDENT}register_checkpoint_conversion_mapping(name, found, overwrite=True)"
        return "\n".join([*lines, about, *call, kept, more, last])

    def _conversions(self) -> str:
        lines = signature("conversions", self._parameters(), "list[WeightTransform]")
        about = docstring(["Give the conversions, which the library applies in both directions."], 1)
        body = statement("return ", Call("", tuple(self.transforms), "[]"), 1, flat)
        return "\n".join([*lines, about, *body])


def _imports(code: str, own: str) -> str:
    lines = ["from __future__ import annotations", ""]
    lines += ["import math"] if "math." in code else []
    lines += ["import re"] if re.search(r"\bre\.", code) else []
    lines += abstract(code)
    lines += ["from functools import partial"] if "partial(" in code else []
    lines += ["from typing import Any"] if re.search(r"\bAny\b", code) else []
    lines += [""] if lines[-1] else []
    lines += ["import torch"] if re.search(r"\btorch\.", code) else []
    lines += ["from torch import Tensor"] if re.search(r"\bTensor\b", code) else []
    functions = ("get_checkpoint_conversion_mapping", "register_checkpoint_conversion_mapping")
    lines += ["from transformers.conversion_mapping import (", *(f"{INDENT}{name}," for name in functions), ")"]
    names = [name for name in LIBRARY if re.search(rf"\b{name}\b", code)]
    lines += ["from transformers.core_model_loading import (", *(f"{INDENT}{name}," for name in names), ")"]
    return "\n".join(lines)
