"""The functions of emitted operations: what a unit's weights are made of, and how its arithmetic is taken back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from automatch.core.expr import Function
from automatch.exporters import helpers
from automatch.exporters.block import RESERVED, Block, safe
from automatch.exporters.code import Atom, Infix, Item, Node, Suffixed, flat, quoted
from automatch.exporters.code import Call as Calling
from automatch.exporters.documents import docstring, signature
from automatch.exporters.expressions import FUNCTIONS, Writer, computes, renamed
from automatch.exporters.units import LAYER, Unit, starred
from automatch.rules import formula as formulas
from automatch.rules.pattern import Pattern
from automatch.rules.ruleset import Axis, Carried, Derived, Reading, Size
from automatch.rules.terms import (
    Call,
    Index,
    Key,
    Power,
    Rotary,
    Scalar,
    Scale,
    Term,
    Transpose,
    View,
    with_children,
)
from automatch.rules.terms import (
    formulas as formulas_in,
)
from automatch.rules.wording import reading_text

INVERSES: dict[Function, Function] = {
    "exp": "log",
    "log": "exp",
    "sqrt": "square",
    "reciprocal": "reciprocal",
    "tanh": "atanh",
    "atanh": "tanh",
    "sigmoid": "logit",
    "logit": "sigmoid",
    "softplus": "inverse_softplus",
    "inverse_softplus": "softplus",
    "expm1": "log1p",
    "log1p": "expm1",
}
LOCALS = {"weights", "weight", "shapes", "converted", "config", "part", "key", "name", "conversions", "register"}


@dataclass(slots=True)
class Making:
    """Functions of one module.

    Attributes:
        sizes: The sizes by their names in the rules.
        helpers: The helpers that the functions use.
        given: Sizes that the caller has to give, and where they are found.
        functions: The functions' source.
        taken: Names that are taken.
    """

    sizes: Mapping[str, Size]
    helpers: set[str] = field(default_factory=set)
    given: dict[str, str] = field(default_factory=dict)
    functions: list[str] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def operation(self, unit: Unit) -> Node:
        """Write a unit's functions, and give the operation that uses them.

        Raises:
            RulesError: Code that sees the unit's weights alone cannot make them.
        """
        terms = {rule.target: rule.term for rule in unit.rules if rule.term is not None}
        peeled = _peeled(next(iter(terms.values()))) if len(terms) == 1 else None
        arithmetic = any(map(computes, terms.values()))
        made = self._function(unit, terms, numeric=arithmetic)
        named = [_names("sources", unit.sources), _names("targets", unit.targets)]
        if arithmetic and peeled is None:
            named.append(Atom('lossy="its arithmetic cannot be taken back"'))
        elif arithmetic and peeled is not None:
            moves, steps = peeled
            named.append(_keyword("undo", self._undo(unit, steps)))
            named.append(_keyword("moves", self._function(unit, {unit.targets[0]: moves}, numeric=True)))
        return Calling("Rearrange", (made, *named))

    def _function(self, unit: Unit, terms: Mapping[Pattern, Term], *, numeric: bool) -> Node:
        block = Block(self._reserved(unit))
        given = self._measure(block, unit, [name for term in terms.values() for name in _sizes_in(term)], numeric)
        block.add("converted: dict[str, Tensor] = {}")
        names = {name: self._safe(name) for name in self.sizes}
        writer = Writer(block, _read, lambda each, read: f"range(len({_list(each, read)}))", names, self.helpers)
        writer.repeated = len(terms) > 1
        seen: set[Pattern] = set()
        for target, term in terms.items():
            if isinstance(term, Key) and term.pattern in seen:
                # two parameters must not share memory
                block.assign(f"converted[{_string(target)}]", Suffixed(_read(term.pattern), ".clone()"))
                continue
            seen |= {term.pattern} if isinstance(term, Key) else set()
            writer.assign("converted", _string(target), term, "")
        block.add("return converted")
        parameters = [
            "weights: Weights",
            "config: Any",
            "shapes: Shapes",
            *(["*", *(f"{name}: int" for name in given)] if given else []),
        ]
        return self._added(unit, "make", parameters, "dict[str, Tensor]", block, given)

    def _undo(self, unit: Unit, steps: Sequence[Term]) -> Node:
        block = Block(self._reserved(unit))
        given = self._measure(block, unit, [name for step in steps for name in _own_sizes(step)], numeric=True)
        names = {name: self._safe(name) for name in self.sizes}
        writer = Writer(block, _read, lambda each, read: "", names, self.helpers)
        self.helpers |= {"_wide", "_rounded"}
        value: Node = Calling("_wide", (Atom("weight"),))
        for step in steps:
            value = _taken_back(step, value, writer)
        block.give_back(Calling("_rounded", (value, Atom("weight"))))
        parameters = ["weight: Tensor", "config: Any", *_keywords(given)]
        return self._added(unit, "undo", parameters, "Tensor", block, given)

    def _added(
        self, unit: Unit, verb: str, parameters: list[str], returns: str, block: Block, given: Sequence[str]
    ) -> Node:
        """Add a function; gives the expression for it with the sizes that it needs."""
        name = self._named(f"_{verb}_{_word(unit.targets[0])}")
        about = docstring(_about(verb, unit.targets), 1)
        self.functions.append("\n".join([*signature(name, parameters, returns), about, *block.lines]))
        return Calling("partial", (Atom(name), *(Atom(f"{each}={each}") for each in given))) if given else Atom(name)

    def _named(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        return name

    def _reserved(self, unit: Unit) -> frozenset[str]:
        return RESERVED | LOCALS | set(helpers.HELPERS) | set(map(self._safe, self.sizes))

    def _safe(self, name: str) -> str:
        return safe(name, RESERVED | LOCALS)

    # Sizes

    def _measure(self, block: Block, unit: Unit, names: Sequence[str], numeric: bool) -> list[str]:
        """Write where sizes come from; gives the names of those that the caller gives."""
        given: list[str] = []
        for name in dict.fromkeys(names):
            if name in self.sizes:
                self._size(name, block, None if numeric else unit, given, set())
        return given

    def _size(self, name: str, block: Block, unit: Unit | None, given: list[str], above: set[str]) -> None:
        own = self._safe(name)
        if own in given or any(line.strip().startswith(f"{own} = ") for line in block.lines):
            return
        size = self.sizes[name]
        found = self._found(size, unit)
        derived = next((r for r in size.readings if isinstance(r, Derived)), None)
        if found is None and derived is not None and name not in above:
            for other in formulas.names(derived.formula):
                self._size(other, block, unit, given, above | {name})
            names = {other: self._safe(other) for other in self.sizes}
            found = Atom(formulas.text(renamed(derived.formula, names)))
        if found is not None:
            block.assign(own, found)
            return
        given.append(own)
        places = " or ".join(map(reading_text, (*size.readings, *size.otherwise)))
        example = "" if size.example is None else f", {size.example} where the rules come from"
        self.given[own] = f"{places}{example}"

    def _found(self, size: Size, unit: Unit | None) -> Node | None:
        """A number that is known, that the model's configuration says, or a shape of the weights at hand."""
        if not size.readings:
            return Atom(str(size.example or 0))
        for reading in size.readings:
            if isinstance(reading, Axis) and unit is not None:
                shape = _shape_of(reading, unit)
                if shape is not None:
                    return shape
            if isinstance(reading, Carried) and _configured(reading):
                return self._configuration([reading, *size.otherwise])
        return self._configuration(size.otherwise)

    def _configuration(self, readings: Sequence[Reading]) -> Node | None:
        paths = [str(each.path) for each in readings if isinstance(each, Carried) and _configured(each)]
        if len(paths) < 2:
            return Atom(paths[0]) if paths else None
        self.helpers.add("_config")
        names = (Atom(f'"{path.removeprefix("config.")}"') for path in dict.fromkeys(paths))
        return Calling("_config", (Atom("config"), *names))


def _shape_of(reading: Axis, unit: Unit) -> Node | None:
    """A size as code reads it off a unit's own weights; None where the weight is another."""
    keys = unit.sources if reading.side == "source" else unit.targets
    for key in keys:
        if "*" not in str(key) and _unstarred(key) == _unstarred(reading.key):
            if reading.side == "source":
                return Suffixed(Item("weights", _string(key)), f".shape[{reading.axis}]")
            return Suffixed(Item("shapes", _string(key)), f"[{reading.axis}]")
    return None


def _keywords(given: Sequence[str]) -> list[str]:
    return ["*", *(f"{name}: int" for name in given)] if given else []


def _keyword(name: str, value: Node) -> Node:
    return replace(value, head=f"{name}={value.head}") if isinstance(value, Calling) else Atom(f"{name}={flat(value)}")


def _about(verb: str, targets: Sequence[Pattern]) -> list[str]:
    if verb == "undo":
        return [f"Take back the arithmetic of {_word(targets[0])}."]
    if len(targets) == 1:
        return [f"Make {targets[0]}."]
    return [f"Make {len(targets)} weights.", "\n".join(f"- {target}" for target in targets)]


def _configured(reading: Carried) -> bool:
    path = str(reading.path)
    return (
        reading.side == "target" and path.startswith("config.") and all(word.isidentifier() for word in path.split("."))
    )


def _unstarred(key: Pattern) -> str:
    return "".join(piece if isinstance(piece, str) else "*" for piece in key.pieces)


def _string(key: Pattern) -> str:
    return f'"{quoted(str(key))}"'


def _names(parameter: str, names: Sequence[Pattern]) -> Node:
    return Calling(f"{parameter}=", tuple(Atom(_string(name)) for name in names), "[]")


def _read(pattern: Pattern) -> Node:
    node = Item("weights", _string(starred(pattern)))
    own = [name for name in pattern.variables if name != LAYER]
    return Suffixed(node, f"[{own[0]}]") if own else node


def _list(each: str, read: Sequence[Pattern]) -> str:
    return f"weights[{_string(starred(read[0]))}]"


def _word(target: Pattern) -> str:
    words = "".join(piece if isinstance(piece, str) else "." for piece in target.pieces).split(".")
    named = [word for word in words if word.isidentifier() and word != "weight"]
    return "_".join(named[-2:] if named[-1:] == ["bias"] else named[-1:]) or "weight"


def _sizes_in(term: Term) -> Iterator[str]:
    for formula in formulas_in(term):
        yield from formulas.names(formula)


def _own_sizes(step: Term) -> Iterator[str]:
    if isinstance(step, Scale):
        for scalar in (step.scale, step.shift):
            if isinstance(scalar, Power):
                yield from formulas.names(scalar.of)


# Arithmetic and its inverse


def _peeled(term: Term) -> tuple[Term, list[Term]] | None:
    """A term without its arithmetic, and the arithmetic, outermost first; None where it cannot be taken back.

    What is done to every entry alike may be done before a movement or after it.
    """
    match term:
        case Key():
            return term, []
        case Scale(of=of):
            inner = _peeled(of)
            return inner and (inner[0], [term, *inner[1]])
        case Call(function=function, of=of):
            inner = _peeled(of) if function in INVERSES else None
            return inner and (inner[0], [term, *inner[1]])
        case Index(of=of) | Transpose(of=of) | View(of=of) | Rotary(of=of):
            inner = _peeled(of)
            return inner and (with_children(term, [inner[0]]), inner[1])
        case _:
            return None


def _taken_back(step: Term, value: Node, writer: Writer) -> Node:
    if isinstance(step, Scale):
        if step.shift != 0.0:
            value = Infix("-", (value, Atom(_scalar(step.shift, writer))))
        if step.scale != 1.0:
            value = Infix("/", (value, Atom(_scalar(step.scale, writer))))
        return value
    assert isinstance(step, Call)
    inverse = INVERSES[step.function]
    if inverse == "reciprocal":
        return Infix("/", (Atom("1"), value))
    if FUNCTIONS[inverse].startswith("_"):
        writer.helpers.add(FUNCTIONS[inverse])
    return Calling(FUNCTIONS[inverse], (value,))


def _scalar(scalar: Scalar, writer: Writer) -> str:
    text = writer.scalar(scalar)
    return f"({text})" if text.startswith("-") else text


__all__ = ["Making"]
