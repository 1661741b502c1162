"""Operators and what they were given, in words: two chains of them are told by what they do not have in common."""

from __future__ import annotations

from collections.abc import Sequence

from automatch.prove.rightness import PARTS
from automatch.prove.steps import Constants, Step

UNDER_ROOT = 1e-2
"""What is added under a root to keep a norm finite is smaller."""

VIEWS = (
    "view",
    "reshape",
    "transpose",
    "permute",
    "unsqueeze",
    "squeeze",
    "clone",
    "contiguous",
    "expand",
    "to",
    "_to_copy",
)
"""Operators that say nothing of what is computed."""


def told(ours: Sequence[Step], theirs: Sequence[Step]) -> str:
    """What differs between two chains; empty where nothing does that can be named."""
    mine, others = list(ours), list(theirs)
    while mine and others and same(mine[-1], others[-1]) and len(mine) + len(others) > 2:
        mine.pop(), others.pop()
    while mine and others and same(mine[0], others[0]) and len(mine) + len(others) > 2:
        mine.pop(0), others.pop(0)
    if len(mine) == len(others) == 1 and mine[0].op == others[0].op:
        first, second = _differing(mine[0].constants, others[0].constants)
        return "" if first == second else f"{mine[0].op}{first} here, {others[0].op}{second} there"
    return f"{_chain(mine)} here, {_chain(others)} there"


def _differing(ours: Constants, theirs: Constants) -> tuple[str, str]:
    mine, others = dict(ours), dict(theirs)
    names = [name for name in dict.fromkeys((*mine, *others)) if mine.get(name) != others.get(name)]
    return _written(mine, names), _written(others, names)


def _written(constants: dict[str, object], names: Sequence[str]) -> str:
    values = [_argument(name, constants[name]) for name in names if name in constants]
    return f"({', '.join(values)})" if values else ""


def _argument(name: str, value: object) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(list(value)) if isinstance(value, tuple) else repr(value)
    return text if name in ("other", "exponent", "value") or name.startswith("argument") else f"{name}={text}"


def _chain(chain: Sequence[Step]) -> str:
    """A chain in words."""
    seen = [step for step in chain if step.op not in (*PARTS, *VIEWS)] or list(chain)
    if not seen:
        return "nothing"
    root = _under_root(seen)
    added = f" (with {root:.6g} under its root)" if root is not None and len(seen) > 1 else ""
    return ", ".join(map(named, seen)) + added


def named(step: Step) -> str:
    """An operator with the constants that matter."""
    constants = dict(step.constants)
    names = [
        name for name, value in constants.items() if isinstance(value, (float, str)) or name in ("other", "exponent")
    ]
    return step.op + _written(constants, names or [name for name in constants if name == "num_groups"])


def _under_root(chain: Sequence[Step]) -> float | None:
    rooted = any(step.op in ("sqrt", "rsqrt") or dict(step.constants).get("exponent") in (0.5, -0.5) for step in chain)
    small = [
        float(value)
        for step in chain
        if step.op == "add"
        for name, value in step.constants
        if name == "other" and isinstance(value, float) and 0 < value < UNDER_ROOT
    ]
    return small[0] if rooted and small else None


def same(one: Step, other: Step) -> bool:
    """Whether two steps are the same operator with the same constants."""
    return one.op == other.op and one.constants == other.constants
