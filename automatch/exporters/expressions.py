"""Terms of rules as Python expressions over torch tensors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from automatch.core.expr import Function
from automatch.errors import RulesError
from automatch.exporters.block import Block
from automatch.exporters.code import WIDTH, Atom, Comprehension, Infix, Node, Suffixed, Text, flat
from automatch.exporters.code import Call as Calling
from automatch.rules import formula as formulas
from automatch.rules.formula import Binary, Formula, Name, Number
from automatch.rules.pattern import Pattern
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
    children,
    keys,
)
from automatch.rules.wording import number_text

FUNCTIONS: dict[Function, str] = {
    "exp": "torch.exp",
    "log": "torch.log",
    "sqrt": "torch.sqrt",
    "rsqrt": "torch.rsqrt",
    "reciprocal": "torch.reciprocal",
    "square": "torch.square",
    "abs": "torch.abs",
    "tanh": "torch.tanh",
    "atanh": "torch.atanh",
    "sigmoid": "torch.sigmoid",
    "logit": "torch.logit",
    "softplus": "torch.nn.functional.softplus",
    "inverse_softplus": "_inverse_softplus",
    "expm1": "torch.expm1",
    "log1p": "torch.log1p",
}


@dataclass(slots=True)
class Writer:
    """Writes terms into a block.

    Attributes:
        block: Where statements go that an expression needs before it.
        read: The expression that reads a source weight.
        numbers: The expression for the numbers that a loop variable of some keys takes; may add statements.
        sizes: What the sizes of formulas are called, where that is not their own name.
        helpers: The helpers used so far.
        repeated: Whether others are made of the same weights, so that no memory may be shared with them.
    """

    block: Block
    read: Callable[[Pattern], Node]
    numbers: Callable[[str, tuple[Pattern, ...]], str]
    sizes: Mapping[str, str]
    helpers: set[str] = field(default_factory=set)
    repeated: bool = False
    _bound: dict[Pattern, str] = field(default_factory=dict)

    def assign(self, of: str, key: str, term: Term, shape: str) -> None:
        """Write `of[key] = term`.

        Args:
            of: The dictionary that the weight goes into.
            key: Its key there.
            term: What it is made of.
            shape: The expression for the target's shape; empty where there is none.
        """
        self.block.fresh()
        self._bound.clear()
        target = self._target(of, key)
        if isinstance(term, Fill) and term.shape is None:
            if not shape:
                raise RulesError("the target's shape is not known where the code runs; write it: zeros(heads, 4)")
            return self.block.assign(target, self._filled("torch.", term.value, shape))
        if computes(term):
            return self._rounded(target, term)
        return self.block.assign(target, self._owned(term))

    def _target(self, of: str, key: str) -> str:
        """The key written out, or where it takes more than half of the line by its name."""
        written = f"{of}[{key}]"
        if 4 * self.block.indent + len(written) <= WIDTH - 24:
            return written
        self.block.assign("key", Text(key))
        return f"{of}[key]"

    def _rounded(self, target: str, term: Term) -> None:
        """Arithmetic: weights get names, are widened, and the result is rounded once."""
        mentioned = dict.fromkeys(keys(term))
        loops = _loops(term)
        if any(loops & set(pattern.variables) for pattern in mentioned):
            raise RulesError("arithmetic over a number of weights that differs from model to model")
        for pattern in mentioned:
            node = self.read(pattern)
            name = self.block.name(node)
            self.block.assign(name, node)
            self._bound[pattern] = name
        value = self.node(term)
        if not mentioned:
            return self.block.assign(target, value)
        read = tuple(Atom(name) for name in self._bound.values())
        return self.block.assign(target, self._call("_rounded", value, *read))

    def _owned(self, term: Term) -> Node:
        """A term whose result shares no memory with what was read and with other results."""
        node = self.node(term)
        kinds = _views(term)
        if kinds is None or not kinds:
            return node
        if Index not in kinds and not self.repeated:
            return Suffixed(node, ".contiguous()")
        dense = Transpose in kinds or View in kinds
        if not dense:
            return Suffixed(node, ".clone()")
        return Calling("torch.clone", (node, Atom("memory_format=torch.contiguous_format")))

    # Terms

    def node(self, term: Term) -> Node:
        """The expression for a term."""
        match term:
            case Key(pattern=pattern):
                return self._key(pattern)
            case Fill(value=value, shape=shape):
                return self._fill(value, shape)
            case Join():
                return self._join(term)
            case Index() | Transpose() | View():
                return Suffixed(self.node(term.of), self._suffix(term))
            case Rotary():
                return self._rotary(term)
            case WeightNorm(g=g, v=v, axis=axis):
                return self._call("_weight_norm", self.node(g), self.node(v), *_dim(axis))
            case Scale() | Combine() | Call() | Total():
                return self._computed(term)
            case Fit():
                raise RulesError("a resized weight is not exact; convert with automatch itself")
            case _:
                assert_never(term)

    def _key(self, pattern: Pattern) -> Node:
        if pattern in self._bound:
            return self._call("_wide", Atom(self._bound[pattern]))
        return self.read(pattern)

    def _fill(self, value: float, shape: tuple[Formula, ...] | None) -> Node:
        if shape is None:
            raise RulesError("a fill that is part of something else needs its sizes: zeros(heads, 4)")
        return self._filled(self._like(), value, tuple(map(self.formula, shape)))

    def _like(self) -> str:
        """What makes a tensor of the dtype and on the device of the weights at hand."""
        if self._bound:
            return f"{flat(self._call('_wide', Atom(next(iter(self._bound.values())))))}.new_"
        return "torch."

    def _filled(self, start: str, value: float, shape: str | tuple[str, ...]) -> Node:
        """A tensor filled with a value, of a shape that is a name or is written out."""
        sizes = (shape,) if isinstance(shape, str) else shape
        kind = {0.0: "zeros", 1.0: "ones"}.get(value)
        if kind:
            return Calling(f"{start}{kind}", tuple(map(Atom, sizes)))
        size = shape if isinstance(shape, str) else f"({', '.join(sizes)}{',' if len(sizes) == 1 else ''})"
        return Calling(f"{start}full", (Atom(size), Atom(number_text(value))))

    def _join(self, term: Join) -> Node:
        parts = self._parts(term)
        if term.kind != "interleave":
            return Calling(f"torch.{term.kind}", (parts, *_dim(term.axis)))
        assert term.groups is not None
        return self._call("_interleave", parts, Atom(self.formula(term.groups)), *_dim(term.axis))

    def _parts(self, term: Join) -> Node:
        if not term.each:
            return Calling("", self._siblings(term.parts), "[]")
        mentioned = tuple(pattern for part in term.parts for pattern in keys(part) if term.each in pattern.variables)
        head = f"for {term.each} in {self.numbers(term.each, mentioned)}"
        if len(term.parts) == 1 and not _loops(term.parts[0]):
            item = self.node(term.parts[0])
            room = WIDTH - 4 * (self.block.indent + 2)
            if len(flat(item)) <= room and len(head) <= room:
                return Comprehension(item, (head,))
        name = self.block.called(f"{term.each}_parts" if len(term.each) > 1 else "parts")
        self.block.add(f"{name} = []")
        with self.block.deeper(f"{head}:"):
            for part in self._siblings(term.parts):
                self.block.assign("part", part)
                self.block.add(f"{name}.append(part)")
        return Atom(name)

    def _siblings(self, parts: tuple[Term, ...]) -> tuple[Node, ...]:
        """Parts of a join; fills are made like the first weight among them."""
        return tuple(self._fill_beside(part, parts) if isinstance(part, Fill) else self.node(part) for part in parts)

    def _fill_beside(self, fill: Fill, parts: tuple[Term, ...]) -> Node:
        beside = [pattern for part in parts for pattern in keys(part)]
        if fill.shape is None or self._bound or not beside:
            return self._fill(fill.value, fill.shape)
        shape = tuple(map(self.formula, fill.shape))
        return self._filled(f"{flat(self.read(beside[0]))}.new_", fill.value, shape)

    def _rotary(self, term: Rotary) -> Node:
        inner, heads = self.node(term.of), Atom(self.formula(term.heads))
        if term.first is None:
            return self._call(f"_to_{term.order}", inner, heads, *_dim(term.axis))
        return self._call(f"_first_to_{term.order}", inner, heads, Atom(self.formula(term.first)), *_dim(term.axis))

    def _suffix(self, term: Index | Transpose | View) -> str:
        match term:
            case Transpose(axes=(1, 0)):
                return ".T"
            case Transpose(axes=axes):
                return f".permute({', '.join(map(str, axes))})"
            case View(shape=shape):
                return f".reshape({', '.join(map(self.formula, shape))})"
            case Index(bounds=bounds):
                places = {bound.axis: self._bound_text(bound) for bound in bounds}
                return f"[{', '.join(places.get(axis, ':') for axis in range(max(places) + 1))}]"
            case _:
                assert_never(term)

    def _bound_text(self, bound: Bound) -> str:
        start = "" if bound.start is None else self.formula(bound.start)
        if bound.single:
            return start
        stop = "" if bound.stop is None else self.formula(bound.stop)
        # formatters put spaces around the colon where a side is more than a name or a number
        if all(re.fullmatch(r"-?\w*", side) for side in (start, stop)):
            return f"{start}:{stop}"
        return f"{start + ' ' if start else ''}:{' ' + stop if stop else ''}"

    # Arithmetic

    def _computed(self, term: Scale | Combine | Call | Total) -> Node:
        match term:
            case Scale(of=of, scale=scale, shift=shift):
                return self._scaled(self.node(of), scale, shift)
            case Combine(kind="+", parts=parts):
                return Infix("+", tuple(map(self.node, parts)))
            case Combine(parts=parts):
                return self._product(parts)
            case Call(function="reciprocal", of=of):
                return Infix("/", (Atom("1"), self.node(of)))
            case Call(function=function, of=of):
                head = FUNCTIONS[function]
                return self._call(head, self.node(of)) if head.startswith("_") else Calling(head, (self.node(of),))
            case Total(kind=kind, of=of, axes=axes, keepdim=keepdim):
                dims = str(axes[0]) if len(axes) == 1 else str(axes)
                named = [Atom(f"dim={dims}"), *([Atom("keepdim=True")] if keepdim else [])]
                if kind == "norm":
                    return Calling("torch.linalg.vector_norm", (self.node(of), *named))
                return Suffixed(self.node(of), f".{kind}({', '.join(map(flat, named))})")
            case _:
                assert_never(term)

    def _scaled(self, node: Node, scale: Scalar, shift: Scalar) -> Node:
        if scale != 1.0:
            node = Infix("*", (Atom(self.scalar(scale)), node))
        return node if shift == 0.0 else Infix("+", (Atom(self.scalar(shift)), node))

    def _product(self, parts: tuple[Term, ...]) -> Node:
        below = [part.of for part in parts if isinstance(part, Call) and part.function == "reciprocal"]
        above = [part for part in parts if not (isinstance(part, Call) and part.function == "reciprocal")]
        factors = tuple(map(self.node, above))
        top = Infix("*", factors) if len(factors) > 1 else factors[0] if factors else Atom("1")
        return Infix("/", (top, *map(self.node, below))) if below else top

    def scalar(self, scalar: Scalar) -> str:
        """A factor or a summand."""
        if not isinstance(scalar, Power):
            return number_text(scalar)
        base = self.formula(scalar.of)
        if scalar.exponent == 1.0:
            return f"({base})" if isinstance(scalar.of, Binary) else base
        exponent = number_text(scalar.exponent)
        # formatters leave no spaces around the power of a name
        return f"({base}) ** {exponent}" if isinstance(scalar.of, Binary) else f"{base}**{exponent}"

    def formula(self, formula: Formula) -> str:
        """A number made of sizes."""
        return formulas.text(renamed(formula, self.sizes))

    def _call(self, helper: str, *items: Node) -> Node:
        self.helpers.add(helper)
        return Calling(helper, items)


def renamed(formula: Formula, names: Mapping[str, str]) -> Formula:
    """A formula with other names."""
    match formula:
        case Number():
            return formula
        case Name(name=name):
            return Name(names.get(name, name))
        case Binary(op=op, left=left, right=right):
            return Binary(op, renamed(left, names), renamed(right, names))
        case _:
            assert_never(formula)


def computes(term: Term) -> bool:
    """Whether anything in a term is arithmetic, rather than movement."""
    if isinstance(term, WeightNorm | Scale | Combine | Call | Total | Fit):
        return True
    return any(computes(child) for child in children(term))


def _loops(term: Term) -> set[str]:
    own = {term.each} if isinstance(term, Join) and term.each else set()
    return own.union(*map(_loops, children(term)))


def _views(term: Term) -> set[type[Term]] | None:
    """The operators between a weight and a result that may share its memory; None where one of them copies."""
    found: set[type[Term]] = set()
    while isinstance(term, Index | Transpose | View):
        found.add(type(term))
        term = term.of
    return found if isinstance(term, Key) else None


def _dim(axis: int | None) -> tuple[Node, ...]:
    return () if axis == 0 else (Atom(f"dim={axis}"),)


__all__ = ["Writer", "computes", "renamed"]
