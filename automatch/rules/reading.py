"""Reading terms and sizes from text; the grammar is in `docs/rules.md`. Nothing is evaluated.

Example:
    >>> read_term("layers.{i}.qkv.weight[0:rows]")
    ... # doctest: +ELLIPSIS
    Index(of=Key(pattern=Pattern(pieces=('layers.', Hole(formula=Name(name='i')), '.qkv.weight'))), bounds=...
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from automatch.core.alignment import Entries, Form, Indexed, NewRows
from automatch.core.expr import Function, Reduction
from automatch.errors import RulesError
from automatch.rules import formula as formulas
from automatch.rules.formula import Formula
from automatch.rules.pattern import Pattern
from automatch.rules.pattern import parse as parse_pattern
from automatch.rules.ruleset import Axis, Carried, Count, Derived, Reading
from automatch.rules.terms import (
    Bound,
    Call,
    Combine,
    Fill,
    Fit,
    Index,
    Join,
    Key,
    Power,
    Rotary,
    Scalar,
    Scale,
    Term,
    Total,
    Transpose,
    View,
    WeightNorm,
)
from automatch.rules.wording import FILLS

FUNCTIONS: tuple[Function, ...] = get_args(Function)
REDUCTIONS: tuple[Reduction, ...] = get_args(Reduction)
_FIT: Mapping[str, tuple[str, ...]] = {"form": get_args(Form), "dim#": get_args(Entries), "new": get_args(NewRows)}
"""What may be named in `resize(...)`, # for the number of an axis, and its words."""
JOINS = ("cat", "stack", "interleave")
VALUES = {name: value for value, name in FILLS.items()}

_NUMBER = re.compile(r"\d+(\.\d+)?([eE][-+]?\d+)?(?![\w.{])")
_RUN = re.compile(r"(?!\{[^{}]*\}(?![\w.{]))(?:[\w.]|\{[^{}]*\})+")
_SCALAR = re.compile(r"\{([^{}]*)\}")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_METHOD = re.compile(r"\.(T\b|[a-z]+(?=\())")
_NAMED = re.compile(r"([a-z]+\d?)\s*=")
_FOR = re.compile(r"for\s+([^\W\d]\w*)")
_DEEPEST = 100


def read_term(written: str) -> Term:
    """Read a term.

    Raises:
        RulesError: It is none; the message shows where reading stopped.
    """
    reader = _Reader(written)
    term = reader.sum()
    reader.end()
    return term


def read_reading(written: str) -> Reading:
    """Read where a size comes from.

    Raises:
        RulesError: It is of no known form.

    Example:
        >>> read_reading("source.count(layers.*.norm.weight)")
        Count(side='source', key='layers.*.norm.weight')
    """
    found = re.fullmatch(r"(source|target)(?:\[(.+)\]\[(\d+)\]|\.count\((.+)\)|\.(.+))", written.strip())
    if found is None:
        return _derived(written)
    side = cast(Literal["source", "target"], found[1])
    if found[2] is not None:
        return Axis(side, parse_pattern(found[2]), int(found[3]))
    if found[4] is not None:
        if found[4].count("*") != 1:
            raise RulesError(f"{written!r}: what is counted is one star")
        return Count(side, found[4])
    return Carried(side, parse_pattern(found[5]))


def _derived(written: str) -> Reading:
    try:
        return Derived(formulas.parse(written))
    except RulesError:
        forms = "source.config.num_heads, source[layers.*.q.weight][0], source.count(layers.*.q.weight) (or target)"
        raise RulesError(f"{written!r} is no place to read a size from; write {forms}, or a formula") from None


@dataclass(slots=True)
class _Reader:
    """A term being read, character by character."""

    text: str
    at: int = 0
    depth: int = 0

    # What comes next

    def fail(self, expected: str) -> RulesError:
        return RulesError(f"{self.text!r}: expected {expected} at {self.text[self.at :][:20]!r}")

    def space(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1

    def sees(self, mark: str) -> bool:
        self.space()
        return self.text.startswith(mark, self.at)

    def takes(self, mark: str) -> bool:
        if not self.sees(mark):
            return False
        self.at += len(mark)
        return True

    def need(self, mark: str) -> None:
        if not self.takes(mark):
            raise self.fail(repr(mark))

    def take(self, expression: re.Pattern[str]) -> re.Match[str] | None:
        self.space()
        found = expression.match(self.text, self.at)
        if found is not None:
            self.at = found.end()
        return found

    def end(self) -> None:
        self.space()
        if self.at < len(self.text):
            raise self.fail("the end")

    # Arithmetic

    def sum(self) -> Term:
        self.depth += 1
        if self.depth > _DEEPEST:
            raise RulesError("a term is nested too deep to be read")
        terms: list[Term] = []
        shift: Scalar | None = None
        negative = False
        while True:
            found = self.product(negative)
            if isinstance(found, float | Power):
                if shift is not None:
                    raise self.fail("one number to be added, not two,")
                shift = found
            else:
                terms.append(found)
            if not (self.sees("+") or self.sees("-")):
                break
            negative = self.takes("-")
            if not negative:
                self.need("+")
        self.depth -= 1
        if not terms:
            raise self.fail("a weight, not a number alone,")
        term = terms[0] if len(terms) == 1 else Combine("+", tuple(terms))
        return term if shift is None else _shifted(term, shift)

    def product(self, negative: bool) -> Term | Scalar:
        while self.takes("-"):
            negative = not negative
        factors: list[Term] = []
        scale: Scalar | None = None
        below = False
        while True:
            found = self.factor()
            if isinstance(found, float | Power):
                if scale is not None or below:
                    raise self.fail("one number as a factor, and none to divide by,")
                scale = found
            else:
                factors.append(Call("reciprocal", found) if below else found)
            below = self.sees("/")
            if not (self.takes("*") or self.takes("/")):
                break
        if negative:
            if isinstance(scale, Power):
                raise self.fail("no minus before sizes in braces")
            scale = -(1.0 if scale is None else scale)
        if not factors:
            assert scale is not None
            return scale
        term = factors[0] if len(factors) == 1 else Combine("*", tuple(factors))
        return term if scale in (None, 1.0) else Scale(term, scale=scale)

    def factor(self) -> Term | Scalar:
        if self.takes("("):
            inner = self.sum()
            self.need(")")
            return self.suffixes(inner)
        number = self.take(_NUMBER)
        if number is not None:
            return float(number[0])
        whole = self.take(_RUN)
        if whole is not None:
            return self.named(whole[0], whole.start())
        quoted = self.take(_QUOTED)
        if quoted is not None:
            return self.suffixes(Key(parse_pattern(_unquoted(quoted[0]))))
        scalar = self.take(_SCALAR)
        if scalar is None:
            raise self.fail("a weight's key or a function")
        return _power(scalar[1])

    # Keys and functions

    def named(self, word: str, start: int) -> Term | Scalar:
        if word == "full" and self.sees("["):
            return self.fill(self.bracketed())
        if word in VALUES:
            return self.fill(VALUES[word])
        if not self.sees("("):
            return self.key(word, start)
        stem, dot, method = word.rpartition(".")
        return self.key(stem, start) if dot else self.suffixes(self.call(method))

    def key(self, word: str, start: int) -> Term:
        while word.endswith(".T"):
            word = word.removesuffix(".T")
        self.at = start + len(word)
        return self.suffixes(Key(parse_pattern(word)))

    def bracketed(self) -> float:
        self.need("[")
        minus = self.takes("-")
        number = self.take(_NUMBER)
        if number is None:
            raise self.fail("a number")
        self.need("]")
        return -float(number[0]) if minus else float(number[0])

    def fill(self, value: float) -> Term:
        if not self.takes("("):
            return Fill(value)
        return self.suffixes(Fill(value, self.formulas()))

    def call(self, name: str) -> Term:
        known = (*JOINS, "rotary_pairs", "rotary_halves", "weight_norm", "resize", *FUNCTIONS)
        if name not in known:
            raise RulesError(f"{self.text!r}: there is no function {name}; there are {', '.join(known)}")
        self.need("(")
        if name == "resize":
            return self.fit()
        parts, each, named = self.arguments()
        self.need(")")
        if name in JOINS:
            return self.join(name, parts, each, named)
        if each or len(parts) != (2 if name == "weight_norm" else 1):
            raise self.fail(f"{name} to be given {'two weights' if name == 'weight_norm' else 'one weight'} before")
        return self.special(name, parts, named)

    def arguments(self) -> tuple[list[Term], str, dict[str, str]]:
        parts: list[Term] = []
        named: dict[str, str] = {}
        each = ""
        while True:
            option = self.take(_NAMED)
            if option is not None:
                named[option[1]] = self.raw(",)")
            else:
                parts.append(self.sum())
                loop = self.take(_FOR)
                each = loop[1] if loop else each
            if not self.takes(","):
                return parts, each, named

    def join(self, kind: str, parts: list[Term], each: str, named: dict[str, str]) -> Term:
        groups = named.pop("groups", None)
        axis = self.axis(named)
        if (groups is not None) != (kind == "interleave"):
            raise self.fail("groups=... with interleave, and with nothing else,")
        read = None if groups is None else formulas.parse(groups)
        return Join(cast(Literal["cat", "stack", "interleave"], kind), tuple(parts), axis or 0, read, each)

    def special(self, name: str, parts: list[Term], named: dict[str, str]) -> Term:
        if name.startswith("rotary_"):
            if "heads" not in named:
                raise self.fail(f"heads=... in {name}")
            heads, first = formulas.parse(named.pop("heads")), named.pop("first", None)
            order = cast(Literal["pairs", "halves"], name.removeprefix("rotary_"))
            return Rotary(
                parts[0], order, heads, None if first is None else formulas.parse(first), self.axis(named) or 0
            )
        if name == "weight_norm":
            return WeightNorm(parts[0], parts[1], self.axis(named))
        self.axis(named, allowed=False)
        return Call(cast(Function, name), parts[0])

    def fit(self) -> Term:
        of = self.sum()
        sizes: list[Formula] = []
        named: dict[str, str] = {}
        while self.takes(","):
            option = self.take(_NAMED)
            if option is None:
                sizes.append(formulas.parse(self.raw(",)")))
                continue
            value = named[option[1]] = self.raw(",)")
            words = _FIT.get(re.sub(r"\d$", "#", option[1]), ())
            if value not in words:
                raise self.fail(f"{option[1]}=... to be one of {', '.join(words) or 'nothing'} before")
        self.need(")")
        form, new_rows = named.pop("form", "matrix"), named.pop("new", "mean")
        indexed = tuple(Indexed(int(dim.removeprefix("dim")), cast(Entries, named[dim])) for dim in named)
        return Fit(of, tuple(sizes) or None, cast(Form, form), indexed, cast(NewRows, new_rows))

    def axis(self, named: dict[str, str], *, allowed: bool = True) -> int | None:
        dim = named.pop("dim", None) if allowed else None
        if named:
            raise self.fail(f"no {', '.join(named)}=... before")
        if dim is not None and not (dim.isdecimal() or dim == "None"):
            raise self.fail("dim=... to be an axis")
        return None if dim == "None" else int(dim or 0)

    # Suffixes

    def suffixes(self, term: Term) -> Term:
        while True:
            if self.sees("["):
                self.need("[")
                term = Index(term, self.bounds())
                continue
            method = self.take(_METHOD)
            if method is None:
                return term
            term = self.method(term, method[1])

    def method(self, term: Term, name: str) -> Term:
        if name == "T":
            return Transpose(term, (1, 0))
        self.need("(")
        if name == "reshape":
            return View(term, self.formulas())
        if name == "permute":
            axes = self.formulas()
            if not all(isinstance(axis, formulas.Number) for axis in axes):
                raise self.fail("permute to be given axes before")
            return Transpose(term, tuple(axis.value for axis in axes if isinstance(axis, formulas.Number)))
        if name not in REDUCTIONS:
            raise RulesError(
                f"{self.text!r}: there is no .{name}; there are .reshape, .permute, .T, .{', .'.join(REDUCTIONS)}"
            )
        return self.total(term, name)

    def total(self, term: Term, name: str) -> Term:
        inside = self.raw(")")
        self.need(")")
        found = re.fullmatch(r"dim=(\d+|\(\d+(?:,\s*\d+)*,?\))(,\s*keepdim=True)?", inside)
        if found is None:
            raise self.fail(f"{name}(dim=...) before")
        axes = tuple(int(axis) for axis in re.findall(r"\d+", found[1]))
        return Total(cast(Reduction, name), term, axes, found[2] is not None)

    def formulas(self) -> tuple[Formula, ...]:
        """Formulas up to a closing bracket."""
        found: list[Formula] = []
        while not self.takes(")"):
            found.append(formulas.parse(self.raw(",)")))
            if not self.sees(")"):
                self.need(",")
        return tuple(found)

    def bounds(self) -> tuple[Bound, ...]:
        found: list[Bound] = []
        axis = 0
        while True:
            start = self.raw(":,]")
            if self.takes(":"):
                stop = self.raw(",]")
                if start or stop:
                    found.append(Bound(axis, _formula(start), _formula(stop)))
            else:
                found.append(Bound(axis, formulas.parse(start), None, single=True))
            axis += 1
            if not self.takes(","):
                break
        self.need("]")
        if not found:
            raise self.fail("entries to be taken before")
        return tuple(found)

    def raw(self, ends: str) -> str:
        """The text up to one of some characters outside brackets."""
        start, depth = self.at, 0
        while self.at < len(self.text):
            letter = self.text[self.at]
            if depth == 0 and letter in ends:
                return self.text[start : self.at].strip()
            depth += (letter in "([") - (letter in ")]")
            self.at += 1
        raise self.fail(f"one of {ends!r}")


def _formula(written: str) -> Formula | None:
    return formulas.parse(written) if written else None


def _unquoted(quoted: str) -> str:
    try:
        return cast(str, json.loads(quoted))
    except ValueError:
        raise RulesError(f"{quoted} is no quoted key; write it as in JSON") from None


def _power(written: str) -> Power:
    base, stars, exponent = written.rpartition("**")
    if not stars:
        return Power(formulas.parse(written))
    try:
        return Power(formulas.parse(base), float(exponent))
    except ValueError:
        raise RulesError(f"{{{written}}}: {exponent.strip()!r} is no exponent") from None


def _shifted(term: Term, shift: Scalar) -> Term:
    if shift == 0.0:  # minus nothing as well
        return term
    if isinstance(term, Scale) and term.shift == 0.0:
        return Scale(term.of, term.scale, shift)
    return Scale(term, shift=shift)


__all__ = ["Pattern", "read_reading", "read_term"]
