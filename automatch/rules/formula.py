"""Whole numbers in rules: literals, names, and sums, products and quotients of them, with Python's meaning.

Example:
    >>> parse("2 * heads + 1")
    Binary(op='+', left=Binary(op='*', left=Number(value=2), right=Name(name='heads')), right=Number(value=1))
    >>> print(text(parse("depth - (1 + i)")), evaluate(parse("i * 40 // 16"), {"i": 3}))
    depth - (1 + i) 7
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, assert_never

from automatch.errors import RulesError

Operator: TypeAlias = Literal["+", "-", "*", "//"]

_OPERATORS: dict[type[ast.operator], Operator] = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.FloorDiv: "//"}
_TIGHTNESS = {"+": 1, "-": 1, "*": 2, "//": 2}


@dataclass(frozen=True, slots=True)
class Number:
    """A literal."""

    value: int


@dataclass(frozen=True, slots=True)
class Name:
    """A variable of a rule, or a size of the rule set."""

    name: str


@dataclass(frozen=True, slots=True)
class Binary:
    """Two numbers put together."""

    op: Operator
    left: Formula
    right: Formula


Formula: TypeAlias = Number | Name | Binary


def parse(written: str) -> Formula:
    """Read a formula.

    Raises:
        RulesError: It is none.
    """
    try:
        # Parsed to a tree, never run; of the tree only the kinds of nodes below are taken.
        tree = ast.parse(written.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise RulesError(f"{written!r} is no formula; write names, whole numbers, + - * // and brackets") from None
    return _from_tree(tree, written)


def _from_tree(tree: ast.expr, written: str) -> Formula:
    match tree:
        case ast.Constant(value=int() as value) if not isinstance(value, bool):
            return Number(value)
        case ast.Name(id=name):
            return Name(name)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as value)):
            return Number(-value)
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return Binary("*", Number(-1), _from_tree(operand, written))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return Binary(_OPERATORS[type(op)], _from_tree(left, written), _from_tree(right, written))
        case _:
            raise RulesError(f"{written!r} is no formula; write names, whole numbers, + - * // and brackets")


def text(formula: Formula) -> str:
    """The formula as a person would write it; `parse` reads it back."""
    match formula:
        case Number(value=value):
            return str(value)
        case Name(name=name):
            return name
        case Binary(op="*", left=Number(value=-1), right=Name() | Binary() as right):
            return f"-{_operand(right, '*', right=True)}"
        case Binary(op=op, left=left, right=right):
            return f"{_operand(left, op, right=False)} {op} {_operand(right, op, right=True)}"
        case _:
            assert_never(formula)


def _operand(formula: Formula, op: Operator, *, right: bool) -> str:
    written = text(formula)
    if isinstance(formula, Number) and formula.value < 0:
        return f"({written})" if right else written
    if not isinstance(formula, Binary):
        return written
    looser = _TIGHTNESS[formula.op] < _TIGHTNESS[op]
    return f"({written})" if looser or (right and _TIGHTNESS[formula.op] == _TIGHTNESS[op]) else written


def names(formula: Formula) -> tuple[str, ...]:
    """The names in a formula, in order of first use.

    Example:
        >>> names(parse("a * i + a"))
        ('a', 'i')
    """
    match formula:
        case Number():
            return ()
        case Name(name=name):
            return (name,)
        case Binary(left=left, right=right):
            return tuple(dict.fromkeys((*names(left), *names(right))))
        case _:
            assert_never(formula)


def evaluate(formula: Formula, values: Mapping[str, int]) -> int:
    """The number that a formula stands for.

    Args:
        formula: What to work out.
        values: The number of every name in it.

    Raises:
        RulesError: A name has no value, or something is divided by zero.
    """
    match formula:
        case Number(value=value):
            return value
        case Name(name=name):
            if name not in values:
                raise RulesError(f"{name} has no value")
            return values[name]
        case Binary(op=op, left=left, right=right):
            return _apply(op, evaluate(left, values), evaluate(right, values), formula)
        case _:
            assert_never(formula)


def _apply(op: Operator, left: int, right: int, formula: Formula) -> int:
    match op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "//":
            if right == 0:
                raise RulesError(f"{text(formula)} divides by zero")
            return left // right
        case _:
            assert_never(op)
