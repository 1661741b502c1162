"""Python source as data, laid out as `ruff format` lays it out.

What does not fit on a line is opened at its brackets, one item a line with a trailing comma, which formatters keep;
what has no brackets to open is given a name first.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias, assert_never

WIDTH = 88
"""The line length of formatters that nobody configured."""

INDENT = "    "


@dataclass(frozen=True, slots=True)
class Atom:
    """A name, a number, a string, or another expression that is short."""

    text: str


@dataclass(frozen=True, slots=True)
class Text:
    """A string, its quotes included."""

    text: str


@dataclass(frozen=True, slots=True)
class Item:
    """`of[key]`, the key a string or a name."""

    of: str
    key: str


@dataclass(frozen=True, slots=True)
class Call:
    """`head(items)`; with an empty head and square brackets a list."""

    head: str
    items: tuple[Node, ...]
    brackets: str = "()"


@dataclass(frozen=True, slots=True)
class Comprehension:
    """`[item for ...]`; every clause is `for ... in ...`."""

    item: Node
    clauses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Suffixed:
    """`of.method(...)` or `of[...]`."""

    of: Node
    suffix: str


@dataclass(frozen=True, slots=True)
class Infix:
    """Operands with an operator between each two."""

    operator: str
    parts: tuple[Node, ...]


Node: TypeAlias = Atom | Text | Item | Call | Comprehension | Suffixed | Infix
Namer: TypeAlias = Callable[[Node], str]


def flat(node: Node) -> str:
    """The code on one line.

    Example:
        >>> flat(Suffixed(Infix("+", (Atom("a"), Call("f", (Atom("b"),)))), ".T"))
        '(a + f(b)).T'
    """
    match node:
        case Atom(text=text) | Text(text=text):
            return text
        case Item(of=of, key=key):
            return f"{of}[{key}]"
        case Call(head=head, items=items, brackets=brackets):
            return f"{head}{brackets[0]}{', '.join(map(flat, items))}{brackets[1]}"
        case Comprehension(item=item, clauses=clauses):
            return f"[{' '.join([flat(item), *clauses])}]"
        case Suffixed(of=of, suffix=suffix):
            return f"({flat(of)}){suffix}" if isinstance(of, Infix) else f"{flat(of)}{suffix}"
        case Infix(operator=operator, parts=parts):
            return f" {operator} ".join(_operand(part, operator, place) for place, part in enumerate(parts))
        case _:
            assert_never(node)


def _operand(node: Node, operator: str, place: int) -> str:
    text = flat(node)
    if not isinstance(node, Infix):
        return text
    looser = operator in "*/" and node.operator in "+-"
    return f"({text})" if looser or place > 0 else text


def assignment(target: str, value: Node, indent: int, namer: Namer) -> list[str]:
    r"""The lines of `target = value`, and before it those that give names to what does not fit in it.

    Args:
        target: What is assigned to.
        value: The value.
        indent: How deep the statement stands.
        namer: Gives a fresh name for a value.

    Example:
        >>> print(*assignment("x", Call("f", (Atom("a" * 60), Atom("b" * 60))), 0, flat), sep="\n")
        ... # doctest: +ELLIPSIS
        x = f(
            aaa...,
            bbb...,
        )
    """
    return statement(f"{target} = ", value, indent, _reusing(target, value, namer))


def _reusing(target: str, value: Node, namer: Namer) -> Namer:
    """What a method is called on may have the name that its result gets."""
    of = value.of if isinstance(value, Suffixed) and target.isidentifier() else None
    return lambda node: target if node is of else namer(node)


def statement(start: str, value: Node, indent: int, namer: Namer) -> list[str]:
    """The lines of a statement that ends with a value: `x = value`, `return value`."""
    before: list[str] = []

    def named(node: Node) -> Node:
        """The node itself where it is a name, else a name that a line before gives it."""
        if isinstance(node, Atom):
            return node
        name = namer(node)
        before.extend(assignment(name, node, indent, namer))
        return Atom(name)

    fitting = _fitting(value, indent, len(f"{INDENT * indent}{start}"), named)
    lines = _opened(start, fitting, "", indent)
    return [*before, *lines]


def _fitting(node: Node, indent: int, before: int, named: Callable[[Node], Node]) -> Node:
    """A node with names in the places of what would not fit, wherever its brackets are opened."""
    if before + len(flat(node)) <= WIDTH:
        return node
    match node:
        case Call(items=items):
            inner = len(INDENT) * (indent + 1) + 1  # the comma
            opened = [_inside(item, indent + 1, inner, named) for item in items]
            return replace(node, items=tuple(opened))
        case Suffixed(of=of, suffix=suffix):
            short = Suffixed(named(of), suffix)
            return short if before + len(flat(short)) <= WIDTH else _call_of(short)
        case Infix(operator=operator, parts=parts):
            fewer = Infix(operator, tuple(map(named, parts)))
            if before + len(flat(fewer)) <= WIDTH or len(parts) == 2:
                return fewer
            return Infix(operator, (named(Infix(operator, fewer.parts[:-1])), fewer.parts[-1]))
        case Item(of=of, key=key) if not key.isidentifier():
            return Item(of, flat(named(Text(key))))
        case Atom() | Text() | Item() | Comprehension():
            return node
        case _:
            assert_never(node)


def _call_of(node: Suffixed) -> Call:
    """A method's call, or an index, as something whose brackets can be opened."""
    opening = min(place for place in (node.suffix.find("("), node.suffix.find("[")) if place >= 0)
    inner, bracket = node.suffix[opening + 1 : -1], node.suffix[opening] + node.suffix[-1]
    return Call(flat(node.of) + node.suffix[:opening], tuple(map(Atom, inner.split(", "))), bracket)


def _inside(item: Node, indent: int, before: int, named: Callable[[Node], Node]) -> Node:
    if before + len(flat(item)) <= WIDTH:
        return item
    if isinstance(item, Text):  # formatters leave a long string on its line
        return item
    return _fitting(item, indent, before, named) if isinstance(item, Call) else named(item)


def _opened(start: str, node: Node, end: str, indent: int) -> list[str]:
    """Lines that begin with `start` and end with `end`, opened at brackets where they are too long."""
    pad, inner = INDENT * indent, INDENT * (indent + 1)
    line = f"{pad}{start}{flat(node)}{end}"
    if len(line) <= WIDTH:
        return [line]
    match node:
        case Text(text=text) if len(inner + text) <= WIDTH:
            return [f"{pad}{start}(", inner + text, f"{pad}){end}"]
        case Call(head=head, items=items, brackets=brackets) if items:
            lines = [line for item in items for line in _opened("", item, ",", indent + 1)]
            return [f"{pad}{start}{head}{brackets[0]}", *lines, f"{pad}{brackets[1]}{end}"]
        case Comprehension(item=item, clauses=clauses):
            whole = " ".join([flat(item), *clauses])
            lines = [whole] if len(inner + whole) <= WIDTH else [flat(item), *clauses]
            return [f"{pad}{start}[", *(inner + each for each in lines), f"{pad}]{end}"]
        case _:
            return [line]


def quoted(text: str) -> str:
    r"""The inside of a string in double quotes that is `text`.

    Example:
        >>> quoted('a"b\\c')
        'a\\"b\\\\c'
    """
    return "".join(_escaped(letter) for letter in text)


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    return letter if letter.isprintable() else letter.encode("unicode_escape").decode()


def plain(text: str) -> str:
    r"""Text that may stand in a comment or a docstring whatever it says: one line, no quotes of Python's.

    Example:
        >>> plain('one\n  two\\')
        'one two/'
    """
    line = re.sub(r"\s+", " ", "".join(letter if letter.isprintable() else " " for letter in text)).strip()
    return line.replace('"""', "'''").replace("\\", "/")
