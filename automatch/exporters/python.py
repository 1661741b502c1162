"""Rules as a plain Python function that needs torch alone."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from automatch.errors import RulesError, together
from automatch.exporters import helpers
from automatch.exporters.block import RESERVED, Block
from automatch.exporters.code import INDENT, Atom, Call, Text, assignment, flat, statement
from automatch.exporters.documents import abstract, docstring, head, left_out, section, signature
from automatch.exporters.functions import Converting, Listing
from automatch.exporters.keytext import expression, regex
from automatch.exporters.measures import Measured, measured, names_in_keys, names_in_terms
from automatch.exporters.plan import plan, sources, telling
from automatch.exporters.walk import Walk
from automatch.rules import formula as formulas
from automatch.rules.pattern import Pattern
from automatch.rules.ruleset import Derived, Rule, RuleSet
from automatch.rules.terms import Join, Term, children

LOCALS = {"weights", "converted", "shapes", "old", "new", "allow_unused", "part", "key", "convert", "source_keys"}


def to_python(rules: RuleSet, optional: Collection[str] = ()) -> str:
    r"""A module with a function `convert` that makes the target's weights of the source's.

    Args:
        rules: The rules.
        optional: The targets of rules that some layers or checkpoints lack the source of, as they stand in the rules:
            a first dense layer's, a tied weight's. Where the source is not there, they make nothing, and nothing is
            reported.

    Raises:
        RulesError: Some rules cannot be written as such a function, or `optional` names none of them; all are listed.

    Example:
        >>> from automatch.rules.file import loads
        >>> rules = loads('''
        ... format = "automatch.rules"
        ... version = 1
        ... [structural]
        ... "h.{i}.up.weight" = "layers.{i}.mlp.up.weight.T"
        ... ''', "example")
        >>> print(to_python(rules).split("allow_unused)")[1].split("def source_keys")[0].rstrip())
        <BLANKLINE>
            converted: dict[str, Tensor] = {}
            layers = _numbers(weights, r"layers\.(\d+)\.mlp\.up\.weight$")
            for i in layers:
                up = weights[f"layers.{i}.mlp.up.weight"].T
                converted[f"h.{i}.up.weight"] = up.contiguous()
            return converted
    """
    targets = {str(rule.target) for rule in rules.rules if sources(rule)}
    strange = [target for target in optional if target not in targets]
    if strange:
        raise together(RulesError, "no rule reads weights to make:", strange)
    try:
        return _module(rules, optional)
    except RulesError as error:
        problems = list(_problems(rules)) or [str(error)]
    raise together(RulesError, "the rules cannot be written as a Python function:", problems)


def _problems(rules: RuleSet) -> Iterator[str]:
    """What is wrong with single rules, whatever is wrong with their company."""
    for rule in rules.rules:
        if not sources(rule):
            continue
        try:
            _module(replace(rules, rules=(rule,)))
        except RulesError as error:
            yield f"{rule.target}: {error}"


def _module(rules: RuleSet, optional: Collection[str] = ()) -> str:
    used = [rule for rule in rules.rules if rule.term is not None]
    if not used:
        raise RulesError("there is no rule that makes a weight")
    sizes = measured(rules, [name for rule in used for name in names_in_terms(rule)])
    in_keys = {name for rule in used for name in names_in_keys(sources(rule))}
    reserved = _reserved(used, sizes)
    steps, needed = plan(rules.rules), {"_listed"}
    converting = Converting(Walk(Block(reserved), sizes, needed, used, optional))
    converting.write(steps, used)
    listing = Listing(Walk(Block(reserved), _below(sizes, in_keys), needed, used, optional))
    listing.write(steps, used)
    return _Text(rules, converting, listing, telling(used)).text()


def _below(sizes: dict[str, Measured], names: set[str]) -> dict[str, Measured]:
    """The sizes of some names, and those that they rest on."""
    found = {name: size for name, size in sizes.items() if name in names}
    below = {
        each
        for size in found.values()
        if isinstance(size.reading, Derived)
        for each in formulas.names(size.reading.formula)
    }
    return found if below <= names else _below(sizes, names | below)


def _reserved(used: Sequence[Rule], sizes: dict[str, Measured]) -> frozenset[str]:
    """Names that values may not have.

    Raises:
        RulesError: A variable has the name of something else.
    """
    variables = {name for rule in used for name in (*rule.target.variables, *_loops(rule.term))}
    taken = RESERVED | LOCALS | set(helpers.HELPERS) | {size.name for size in sizes.values()}
    strange = sorted(name for name in variables if name in taken or not name.isidentifier())
    if strange:
        raise RulesError(f"{', '.join(strange)} cannot be a variable in code; give it another name in the rules")
    return taken | variables


def _loops(term: Term | None) -> set[str]:
    if term is None:
        return set()
    own = {term.each} if isinstance(term, Join) and term.each else set()
    return own.union(*map(_loops, children(term)))


@dataclass(frozen=True, slots=True)
class _Text:
    """A module put together.

    Attributes:
        rules: The rules.
        converting: The body of `convert`.
        listing: The body of `source_keys`.
        told: The target's patterns by which converted weights are known.
    """

    rules: RuleSet
    converting: Converting
    listing: Listing
    told: tuple[Pattern, ...]

    def text(self) -> str:
        """The source."""
        parts = [self._convert(), self._source_keys(), self._check(), *helpers.sources(self.converting.walk.helpers)]
        code = "\n\n\n".join(parts)
        constant = f"\n{self._constant()}\n" if self.told else ""
        return f"{self._head()}\n\n{_imports(code + constant)}\n{constant}\n\n{code}\n"

    # Documentation

    def _head(self) -> str:
        return head(self.rules, ["Written by automatch from its rules; torch is all that it needs."])

    def _documentation(self) -> str:
        same = "Weights have the same names before and after, so that nobody notices where they are converted twice."
        about = ["Make the target's weights of the source's.", *left_out(self.rules), *([] if self.told else [same])]
        about.append(section("Args", self._arguments()))
        about.append(section("Returns", ["The target's weights. What is only renamed is the same tensor."]))
        about.append(section("Raises", ["ValueError: Weights are missing, left over, or converted already."]))
        return docstring(about, 1)

    def _arguments(self) -> list[str]:
        lines = ["weights: The source's weights by their keys."]
        lines += [f"{size.name}: A number; {size.origin}." for size in self._given()]
        if self._shapes:
            lines.append("shapes: The shapes of the target's weights by their keys.")
        return [*lines, "allow_unused: Patterns of weights that may be passed over; True for all."]

    @property
    def _shapes(self) -> bool:
        return self.converting.walk.shapes or self.listing.walk.shapes

    def _given(self) -> list[Measured]:
        return [size for size in self.converting.walk.sizes.values() if size.given]

    # Code

    def _constant(self) -> str:
        items = tuple(Text(regex(expression(pattern))) for pattern in self.told)
        lines = assignment("_CONVERTED", Call("", items, "[]"), 0, flat)
        return "\n".join([*lines, '"""Keys that only converted weights have."""'])

    def _convert(self) -> str:
        shapes = ["shapes: Mapping[str, Sequence[int]]"] if self._shapes else []
        given = [f"{size.name}: {'Sequence[int]' if size.variables else 'int'}" for size in self._given()]
        named = [*given, *shapes, "allow_unused: bool | Collection[str] = False"]
        opening = signature("convert", ["weights: Mapping[str, Tensor]", "*", *named], "dict[str, Tensor]")
        needed = [size.name for size in self.listing.walk.sizes.values() if size.given]
        needed += ["shapes"] if self.listing.walk.shapes else []
        expected = f"source_keys({', '.join(['weights', *(f'{name}={name}' for name in needed)])})"
        check = Call("_check", (Atom("weights"), Atom(expected), Atom("allow_unused")))
        body = statement("", check, 1, flat)
        body += [f"{INDENT}converted: dict[str, Tensor] = {{}}"]
        lines = self.converting.walk.block.lines
        return "\n".join([*opening, self._documentation(), *body, *lines, f"{INDENT}return converted"])

    def _source_keys(self) -> str:
        given = [f"{size.name}: int" for size in self.listing.walk.sizes.values() if size.given]
        given += ["shapes: Mapping[str, Sequence[int]]"] if self.listing.walk.shapes else []
        named = ["*", *given] if given else []
        opening = signature("source_keys", ["weights: Mapping[str, Tensor]", *named], "Iterator[str]")
        about = f'{INDENT}"""Yield the keys that `convert` reads, for the layers that are there."""'
        lines = self.listing.walk.block.lines or [f"{INDENT}yield from ()"]
        return "\n".join([*opening, about, *lines])

    def _check(self) -> str:
        return _CHECK_TOLD.strip() if self.told else _CHECK.strip()


_CHECK = '''
def _check(
    weights: Mapping[str, Tensor],
    keys: Iterable[str],
    allow_unused: bool | Collection[str],
) -> None:
    """Report all that is missing, left over or scaled elsewhere, together."""
    expected = set(keys)
    problems: dict[str, list[str]] = {
        "missing weights": sorted(expected - weights.keys()),
        "weights that nothing is made of": [],
        "floats of 8 bits whose scales nothing reads": [],
    }
    allowed = ["*"] if allow_unused is True else allow_unused or []
    scaled = set()
    for k in sorted(weights.keys() - expected):
        module, _, leaf = k.rpartition(".")
        scaled.update([module] if "scale" in leaf else [])
        if not any(fnmatch.fnmatchcase(k, pattern) for pattern in allowed):
            problems["weights that nothing is made of"].append(k)
    for k in sorted(expected & weights.keys()):
        narrow = weights[k].is_floating_point() and weights[k].element_size() == 1
        if narrow and k.rpartition(".")[0] in scaled:
            problems["floats of 8 bits whose scales nothing reads"].append(k)
    found = [f"{what}: {_listed(which)}" for what, which in problems.items() if which]
    if found:
        raise ValueError("; ".join(found))
'''

_CHECK_TOLD = _CHECK.replace(
    '''together."""
''',
    '''together."""
    done = [k for k in weights if any(re.fullmatch(p, k) for p in _CONVERTED)]
    if done:
        raise ValueError(f"weights that are converted already: {_listed(done)}")
''',
)


def _imports(code: str) -> str:
    lines = ["from __future__ import annotations", ""]
    lines += ["import fnmatch"] if re.search(r"\bfnmatch\.", code) else []
    lines += ["import re"] if re.search(r"\bre\.", code) else []
    lines += abstract(code)
    lines += ["from typing import Any"] if re.search(r"\bAny\b", code) else []
    lines += ["", *(["import torch"] if re.search(r"\btorch\.", code) else []), "from torch import Tensor"]
    return "\n".join(lines)
