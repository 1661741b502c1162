"""A file that holds more than one state dict -> the one that is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from automatch.core.graph import Shape
from automatch.errors import CheckpointError, together

Tree: TypeAlias = Mapping[object, object]
Measure: TypeAlias = Callable[[object], "tuple[Shape, int] | None"]
"""The shape and the bytes of a tensor; None for what is none."""

_WELL_KNOWN = ("state_dict", "model_state_dict", "model")
_NAMED = 5  # entries that a message names before it only counts them


@dataclass(frozen=True, slots=True)
class Choice:
    """One state dict of a file.

    Attributes:
        name: The entries that lead to it, joined by dots; empty where it is the file itself.
        content: Its tensors by name, and what else it holds.
        notes: Why it and no other, where there was a choice.
    """

    name: str
    content: Tree
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Held:
    """What an entry holds, at any depth."""

    count: int = 0
    nbytes: int = 0

    def __str__(self) -> str:
        return f"{self.count} tensor{'s' * (self.count != 1)}, {self.nbytes} bytes"


def choose(content: object, measure: Measure, entry: str | None, path: Path) -> Choice:
    """The state dict that a file is opened for.

    Args:
        content: What the file holds.
        measure: Tells tensors.
        entry: The entry that the user named, with dots between the steps; None to find it.
        path: The file, for errors.

    Raises:
        CheckpointError: There is no such entry, none at all, or several and none is called as state dicts are.

    Example:
        >>> held = {"model": {"w": 1}, "ema": {"w": 1}}
        >>> choose(held, lambda value: ((), 4) if value == 1 else None, None, Path("x.pt")).notes
        ("entry 'model' was read; other entries with tensors were left out: 'ema' (1 tensor, 4 bytes)",)
    """
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: this file holds a {type(content).__name__}, not a state dict.\nNext: save model.state_dict()."
        )
    if entry is None:
        return _found(content, measure, path, "")
    named = _named(content, entry)
    if named is None or not _held(named, measure).count:
        others = [f"{name!r}: {held}" for name, _, held in _nested(content, measure)]
        headline = f"{path}: no entry {entry!r} of this file holds tensors; there are:"
        listed = together(CheckpointError, headline, others)
        raise CheckpointError(f"{listed}\nNext: name one of these entries, or none.")
    return _found(named, measure, path, entry)


def no_tensors(names: Sequence[str]) -> tuple[str, ...]:
    """The note that entries of a state dict were left out because they are no tensors; none if there are none.

    Example:
        >>> no_tensors(["version"])
        ("1 entry is no tensor and was left out: 'version'",)
    """
    if not names:
        return ()
    told = ", ".join(map(repr, names[:_NAMED])) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    what = "1 entry is no tensor and was" if len(names) == 1 else f"{len(names)} entries are no tensors and were"
    return (f"{what} left out: {told}",)


def _found(content: Tree, measure: Measure, path: Path, name: str) -> Choice:
    """The state dict itself, or the one in it that is meant."""
    nested = _nested(content, measure)
    direct = [size[0] for key, value in content.items() if isinstance(key, str) and (size := measure(value))]
    # A loss or a step count beside the model's entry does not make the file a state dict.
    if direct and (any(direct) or not nested):
        return Choice(name, content, _left([(key, held) for key, _, held in nested], name, "the file itself"))
    shallow = [(key, value, held) for key, value, held in nested if _is_flat(value, measure)]
    candidates = shallow or nested
    known = [candidate for candidate in candidates if candidate[0] in _WELL_KNOWN]
    chosen = candidates if len(candidates) == 1 else known
    if len(chosen) != 1:
        raise _unclear(content, [(key, held) for key, _, held in candidates], path, name)
    key, value, _ = chosen[0]
    inner = _found(value, measure, path, f"{name}.{key}" if name else key)
    others = [(other, held) for other, _, held in nested if other != key]
    return Choice(inner.name, inner.content, (*_left(others, name, f"entry {key!r}"), *inner.notes))


def _left(others: list[tuple[str, _Held]], name: str, taken: str) -> tuple[str, ...]:
    if not others:
        return ()
    told = ", ".join(f"{other!r} ({held})" for other, held in others)
    where = f"of {name!r}, " if name else ""
    return (f"{where}{taken} was read; other entries with tensors were left out: {told}",)


def _unclear(content: Tree, candidates: list[tuple[str, _Held]], path: Path, name: str) -> CheckpointError:
    if not candidates:
        names = ", ".join(map(repr, list(content)[:_NAMED])) or "nothing"
        return CheckpointError(
            f"{path}: no entry of this file is a state dict (found: {names}).\nNext: save model.state_dict()."
        )
    lines = [f"{f'{name}.{key}' if name else key}: {held}" for key, held in candidates]
    headline = f"{path}: this file holds several state dicts: {', '.join(repr(key) for key, _ in candidates)}:"
    listed = together(CheckpointError, headline, lines)
    return CheckpointError(f'{listed}\nNext: say which: --entry NAME, or entry="NAME".')


def _named(content: Tree, entry: str) -> Tree | None:
    """The entry of a dotted name; keys may have dots of their own."""
    parts = entry.split(".")
    for length in range(len(parts), 0, -1):
        inner = content.get(".".join(parts[:length]))
        if not isinstance(inner, Mapping):
            continue
        found = inner if length == len(parts) else _named(inner, ".".join(parts[length:]))
        if found is not None:
            return found
    return None


def _nested(content: Tree, measure: Measure) -> list[tuple[str, Tree, _Held]]:
    """The entries that are mappings with tensors somewhere in them."""
    inner = [(str(key), value) for key, value in content.items() if isinstance(value, Mapping)]
    return [(key, value, held) for key, value in inner if (held := _held(value, measure)).count]


def _is_flat(content: Tree, measure: Measure) -> bool:
    return any(isinstance(key, str) and measure(value) is not None for key, value in content.items())


def _held(content: object, measure: Measure) -> _Held:
    sizes = list(_sizes(content, measure, set()))
    return _Held(len(sizes), sum(sizes))


def _sizes(content: object, measure: Measure, seen: set[int]) -> Iterator[int]:
    """The bytes of every tensor below an entry; a pickle may hold an entry twice, or inside itself."""
    if (size := measure(content)) is not None:
        yield size[1]
    if not isinstance(content, Mapping) or id(content) in seen:
        return
    seen.add(id(content))
    for value in content.values():
        yield from _sizes(value, measure, seen)
