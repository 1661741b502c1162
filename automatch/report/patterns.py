"""State-dict keys that differ only in numbers, written once: `blocks.{0..39}.attn.{0,2}.weight`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from automatch.lift.keys import split

_Part: TypeAlias = "str | tuple[int, ...]"
_Parts: TypeAlias = tuple[_Part, ...]


@dataclass(frozen=True, slots=True)
class Pattern:
    """Keys that differ only in numbers between dots.

    Attributes:
        text: All of them in one line, numbers that vary in braces.
        keys: The keys.
    """

    text: str
    keys: tuple[str, ...]


def collapse(keys: Iterable[str]) -> tuple[Pattern, ...]:
    """Patterns that cover the keys exactly, in order of their first key.

    Two keys share a pattern only if every combination of the numbers shown is there, so that nothing is claimed that
    was not given.

    Example:
        >>> [pattern.text for pattern in collapse(["a.0.w", "a.1.w", "a.2.w", "a.0.b", "norm.w"])]
        ['a.{0..2}.w', 'a.0.b', 'norm.w']
    """
    groups: dict[_Parts, list[str]] = {}
    for key in keys:
        groups.setdefault(_parts(key), []).append(key)
    deepest = max((len(parts) for parts in groups), default=0)
    for position in range(deepest):
        groups = _merged(groups, position)
    return tuple(Pattern(_text(parts), tuple(members)) for parts, members in groups.items())


def ranges(numbers: Sequence[int], separator: str = ",") -> str:
    """Numbers in the order given, runs of three and more shortened.

    Example:
        >>> ranges((0, 1, 2, 3, 7, 9, 10))
        '0..3,7,9,10'
        >>> ranges((2, 0), separator=" ")
        '2 0'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return separator.join(_run(run, separator) for run in runs)


def shortened(line: str, width: int) -> str:
    """A line cut to a width, the cut shown by dots.

    Example:
        >>> shortened("cat(blocks.0.q, blocks.0.k)", 16)
        'cat(blocks.0....'
    """
    return line if len(line) <= width else line[: max(0, width - 3)] + "..."


def _parts(key: str) -> _Parts:
    template, numbers = split(key)
    remaining = iter(numbers)
    return tuple((next(remaining),) if word == "{}" else word for word in template.split("."))


def _merged(groups: dict[_Parts, list[str]], position: int) -> dict[_Parts, list[str]]:
    """Groups that are equal but for the numbers at one position, made one."""
    by_rest: dict[_Parts, list[_Parts]] = {}
    for parts in groups:
        fixed = position >= len(parts) or isinstance(parts[position], str)
        rest = parts if fixed else (*parts[:position], (), *parts[position + 1 :])
        by_rest.setdefault(rest, []).append(parts)
    return dict(_joined(position, members, groups) for members in by_rest.values())


def _joined(position: int, members: list[_Parts], groups: dict[_Parts, list[str]]) -> tuple[_Parts, list[str]]:
    keys = [key for parts in members for key in groups[parts]]
    if len(members) == 1:
        return members[0], keys
    numbers = sorted({number for parts in members for number in parts[position] if isinstance(number, int)})
    return (*members[0][:position], tuple(numbers), *members[0][position + 1 :]), keys


def _text(parts: _Parts) -> str:
    return ".".join(part if isinstance(part, str) else _braced(part) for part in parts)


def _braced(numbers: tuple[int, ...]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"{{{ranges(numbers)}}}"


def _run(run: list[int], separator: str) -> str:
    return f"{run[0]}..{run[-1]}" if len(run) > 2 else separator.join(map(str, run))
