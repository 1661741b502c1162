"""What a check found, as a value and as text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from automatch.core.mapping import Rival, Status
from automatch.errors import MappingError
from automatch.lift.keys import split

NAMED = 4
"""How many keys of a group are named after the first."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A target key whose entry is not what is expected.

    Attributes:
        target: The key.
        expected_sources: The source keys that are expected, in order; empty where none are.
        sources: The source keys that the entry reads.
        expected: What is expected, as text.
        got: What the entry has, as text.
        status: The entry's status.
        what: What differs, in a few words.
        reasons: The entry's reasons.
        rivals: What else the entry considered.
    """

    target: str
    expected_sources: tuple[str, ...]
    sources: tuple[str, ...]
    expected: str
    got: str
    status: Status
    what: str
    reasons: tuple[str, ...] = ()
    rivals: tuple[Rival, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """How a mapping compares with what is expected.

    Attributes:
        checked: Number of keys that both speak of.
        missing: Keys that are expected, but not in the mapping.
        extra: Keys of the mapping that the expectation does not speak of.
        different: Keys whose entries are not as expected.
        proof: What was shown of the expectation and is not of the mapping, and how the functions differ, as sentences.
    """

    checked: int
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    different: tuple[Difference, ...] = ()
    proof: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is missing, extra or different, and what was proved still is."""
        return not (self.missing or self.extra or self.different or self.proof)

    def raise_for_difference(self) -> None:
        """Do nothing if all is as expected.

        Raises:
            MappingError: Something is not; the message is the report.
        """
        if not self.ok:
            raise MappingError(str(self))

    def __str__(self) -> str:
        """The report; equal differences across layers are shown once, with the number of their keys."""
        if self.ok:
            return f"as expected: {self.checked} weights"
        counts = f"{len(self.different)} different, {len(self.missing)} missing, {len(self.extra)} extra"
        lines = [f"not as expected: {counts} ({self.checked} weights compared)"]
        if self.proof:
            lines.extend(["proof (what was shown before, and is not now):", *(f"  {line}" for line in self.proof)])
        for group in _groups(self.different):
            lines.extend(_difference_lines(group))
        lines.extend(_key_lines("missing (expected, but the mapping does not have them):", self.missing))
        lines.extend(_key_lines("extra (the expectation does not speak of them):", self.extra))
        return "\n".join(lines)


def _groups(different: tuple[Difference, ...]) -> list[list[Difference]]:
    groups: dict[tuple[object, ...], list[Difference]] = {}
    for difference in different:
        keys = ((difference.target,), difference.expected_sources, difference.sources)
        masked = tuple(tuple(split(key)[0] for key in part) for part in keys)
        groups.setdefault((masked, difference.status, difference.what), []).append(difference)
    return list(groups.values())


def _difference_lines(group: list[Difference]) -> Iterator[str]:
    first = group[0]
    times = f"  ({len(group)} keys of the form {split(first.target)[0]})" if len(group) > 1 else ""
    yield f"{first.target}{times}: {first.what}"
    yield f"  expected  {first.expected}"
    yield f"  got       {first.got}  [{first.status}]"
    yield from (f"  because   {reason}" for reason in first.reasons)
    for rival in first.rivals:
        yield f"  rival     {', '.join(rival.sources) or 'no source'}: {rival.reason}"
    if len(group) > 1:
        yield f"  likewise  {_shortened([difference.target for difference in group[1:]])}"


def _key_lines(headline: str, keys: tuple[str, ...]) -> Iterator[str]:
    if not keys:
        return
    groups: dict[object, list[str]] = {}
    for key in keys:
        groups.setdefault(split(key)[0], []).append(key)
    yield headline
    for group in groups.values():
        likewise = f"; likewise {_shortened(group[1:])}" if len(group) > 1 else ""
        yield f"  {group[0]}{likewise}"


def _shortened(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
