"""Reading untrusted JSON values: every fault is a line that names a JSON path, what was expected and what was found.

A reader is a function of a value and its path that returns the parsed value or raises `MappingFormatError`. The text
of that error is one fault a line, so that errors of parts add up to the error of the whole.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias, TypeVar, cast

from automatch.core.graph import Shape
from automatch.errors import MappingFormatError, together

T = TypeVar("T")
D = TypeVar("D")
Reader: TypeAlias = Callable[[object, str], T]
Json: TypeAlias = dict[str, object]


def fault(where: str, expected: str, value: object) -> MappingFormatError:
    """The error for a value that is not what was expected.

    Example:
        >>> print(fault("$.version", "an integer", "one"))
        $.version: expected an integer, found "one"
    """
    return MappingFormatError(f"{where}: expected {expected}, found {_shown(value)}")


def faults_of(error: MappingFormatError) -> list[str]:
    """The faults that an error of a reader lists."""
    return str(error).split("\n")


def member(where: str, name: str) -> str:
    """The JSON path of an object's member.

    Example:
        >>> member("$", "entries"), member("$.weights", "norm.bias")
        ('$.entries', '$.weights["norm.bias"]')
    """
    return f"{where}.{name}" if name.isidentifier() else f"{where}[{json.dumps(name)}]"


def parse(text: str, where: str) -> object:
    """Parse JSON strictly: no NaN, no infinity, no key twice in one object.

    Args:
        text: The whole file.
        where: What messages call the file.

    Raises:
        MappingFormatError: The text is not JSON (with line and column), or an object has a key twice.
    """
    twice: list[str] = []

    def build(pairs: list[tuple[str, object]]) -> dict[str, object]:
        built = dict(pairs)
        if len(built) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            twice.extend(
                f"{json.dumps(key)}, {times} times in one object" for key, times in counts.items() if times > 1
            )
        return built

    try:
        value: object = json.loads(text, object_pairs_hook=build, parse_constant=_refuse_constant)
    except RecursionError:
        raise MappingFormatError(f"{where}: nested too deep to be read; is this the right file?") from None
    except ValueError as error:
        raise MappingFormatError(f"{where}: not JSON: {error}; restore the file or write it anew") from None
    if twice:
        raise together(MappingFormatError, f"{where}: keys are repeated; keep one of each:", twice)
    return value


@dataclass(slots=True)
class Members:
    """The members of one JSON object, read one by one; faults are collected until `close`.

    Attributes:
        where: The object's JSON path.
        left: Members that nobody has read yet.
        faults: What was wrong so far.

    Example:
        >>> members = Members.of({"start": 1, "stop": "x", "step": 2}, "$")
        >>> start, stop = members.take("start", integer), members.take("stop", integer)
        >>> members.close()
        Traceback (most recent call last):
        automatch.errors.MappingFormatError: $.stop: expected an integer, found "x"
        $.step: this field is not known here
    """

    where: str
    left: dict[str, object]
    faults: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, value: object, where: str) -> Members:
        """Start reading an object.

        Raises:
            MappingFormatError: The value is not a JSON object.
        """
        if not isinstance(value, dict):
            raise fault(where, "an object", value)
        return cls(where, dict(value))

    def take(self, name: str, read: Reader[T]) -> T:
        """A required member. After a fault the result is meaningless, and `close` raises."""
        if name not in self.left:
            self.faults.append(f"{member(self.where, name)}: this field is missing")
            return cast(T, None)
        return self.take_or(name, read, cast(T, None))

    def take_or(self, name: str, read: Reader[T], default: D) -> T | D:
        """An optional member, or the default where it is absent."""
        if name not in self.left:
            return default
        try:
            return read(self.left.pop(name), member(self.where, name))
        except MappingFormatError as error:
            self.faults.extend(faults_of(error))
            return default

    def close(self) -> None:
        """Say what was wrong.

        Raises:
            MappingFormatError: A member was missing, not known or not as expected; one fault a line.
        """
        self.faults.extend(f"{member(self.where, name)}: this field is not known here" for name in self.left)
        if self.faults:
            raise MappingFormatError("\n".join(self.faults))


def integer(value: object, where: str) -> int:
    """A whole number (`true` is none, nor is `1.0`)."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise fault(where, "an integer", value)
    return value


def natural(value: object, where: str) -> int:
    """A whole number that is not negative."""
    if integer(value, where) < 0:
        raise fault(where, "an integer that is not negative", value)
    return cast(int, value)


def boolean(value: object, where: str) -> bool:
    """`true` or `false`."""
    if not isinstance(value, bool):
        raise fault(where, "true or false", value)
    return value


def number(value: object, where: str) -> float:
    """A number, or `"inf"` or `"-inf"`, which JSON has no literals for."""
    if isinstance(value, str) and value in ("inf", "-inf"):
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise fault(where, "a number", value)
    try:
        found = float(value)
    except OverflowError:
        raise fault(where, "a number that fits a float", value) from None
    if not math.isfinite(found):
        raise fault(where, 'a finite number, "inf" or "-inf"', value)
    return found


def number_to_json(value: float) -> float | str:
    """The JSON form of a number that `number` reads back.

    Raises:
        ValueError: The value is not a number, which no mapping has a use for.
    """
    if math.isnan(value):
        raise ValueError("NaN has no place in a mapping")
    return float(value) if math.isfinite(value) else str(float(value))


def string(value: object, where: str) -> str:
    """Any text."""
    if not isinstance(value, str):
        raise fault(where, "text", value)
    return value


def name(value: object, where: str) -> str:
    """Text that is not empty."""
    if not string(value, where):
        raise fault(where, "text that is not empty", value)
    return cast(str, value)


def one_of(*choices: str) -> Reader[str]:
    """A reader for one of several words."""

    def read(value: object, where: str) -> str:
        if not isinstance(value, str) or value not in choices:
            raise fault(where, f"one of {', '.join(choices)}", value)
        return value

    return read


def items(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """A reader for a list whose every item is read by `read`; faults of all items are collected."""

    def read_all(value: object, where: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise fault(where, "a list", value)
        found: list[T] = []
        faults: list[str] = []
        for index, item in enumerate(value):
            try:
                found.append(read(item, f"{where}[{index}]"))
            except MappingFormatError as error:
                faults.extend(faults_of(error))
        if faults:
            raise MappingFormatError("\n".join(faults))
        return tuple(found)

    return read_all


def shape(value: object, where: str) -> Shape:
    """A list of sizes, none negative."""
    return items(natural)(value, where)


def numbers(value: object, where: str) -> tuple[tuple[str, int], ...]:
    """An object of integers, as pairs in its order."""
    members = Members.of(value, where)
    found = tuple((path, members.take(path, integer)) for path in list(members.left))
    members.close()
    return found


def filled(**fields: object) -> Json:
    """The fields that say something."""
    return {key: value for key, value in fields.items() if value is not None and value != []}


def open_document(text: str, where: str, kind: str, version: int) -> Members:
    """Parse a file and check that it is of the expected kind and version.

    Returns:
        The members that are left to be read.

    Raises:
        MappingFormatError: It is not JSON, not an object, or of another kind or version.
    """
    return check_kind(parse(text, where), where, kind, version)


def check_kind(value: object, where: str, kind: str, version: int) -> Members:
    """Check that a parsed document is of the expected kind and version; see `open_document`."""
    if not isinstance(value, dict):
        raise fault(where, f"an object of format {kind!r}", value)
    if value.get("format") != kind:
        raise MappingFormatError(f"{where}: format {value.get('format')!r}, expected {kind!r}; is this the right file?")
    found = value.get("version")
    if found != version or isinstance(found, bool):
        _refuse_version(where, kind, found, version)
    return Members.of({key: item for key, item in value.items() if key not in ("format", "version")}, "$")


def _refuse_version(where: str, kind: str, found: object, known: int) -> NoReturn:
    if isinstance(found, int) and not isinstance(found, bool) and found > known:
        step = "install a newer automatch"
    else:
        step = "make the file again with this automatch"
    raise MappingFormatError(
        f"{where}: {kind} version {_shown(found)}, but this automatch reads version {known}; {step}"
    )


def _refuse_constant(literal: str) -> NoReturn:
    raise ValueError(f"{literal} is not allowed")


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    shown = json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
