"""Whether a checkpoint is one that a mapping can be applied to; all problems at once."""

from __future__ import annotations

from collections import abc
from difflib import get_close_matches

from automatch.core.expr import source_leaves
from automatch.core.graph import Shape
from automatch.core.mapping import MappingRecord
from automatch.errors import MappingError, together

SHOWN = 20
"""How many problems an error lists; near names are sought for no more, because seeking them is slow."""

CANDIDATES = 500
"""Among how many keys a near name is sought."""


def readable_keys(record: MappingRecord, found: abc.Mapping[str, Shape], where: str) -> dict[str, str]:
    """For every source key that the mapping reads, the key under which the checkpoint holds it.

    The two differ only for tied weights, of which many files keep one name.

    Args:
        record: The mapping.
        found: The checkpoint's keys and shapes.
        where: What messages call the checkpoint.

    Raises:
        MappingError: Keys are missing or have other shapes; all of them are listed.
    """
    ties = {key: weight.keys for weight in record.source.weights for key in weight.keys}
    names: dict[str, str] = {}
    problems: list[str] = []
    needed = _needed(record)
    spare = [name for name in found if name not in needed]
    for key, (shape, target) in needed.items():
        held = next((name for name in (key, *ties.get(key, ())) if name in found), None)
        if held is None:
            hint = _near(key, spare) if len(problems) < SHOWN else ""
            problems.append(f"{key}: missing, needed for {target}{hint}")
        elif found[held] != shape:
            problems.append(f"{held}: shape {list(found[held])}, but the mapping was made for {list(shape)}")
        else:
            names[key] = held
    if problems:
        headline = (
            f"{where} does not fit the mapping of {record.source.name or 'the source'}; give the checkpoint that was "
            f"matched, or match again. {len(problems)} of its weights:"
        )
        raise together(MappingError, headline, problems, SHOWN)
    return names


def _needed(record: MappingRecord) -> dict[str, tuple[Shape, str]]:
    """Source keys in order of first use, each with its shape and the first target that wants it."""
    needed: dict[str, tuple[Shape, str]] = {}
    for entry in record.entries:
        for leaf in () if entry.expr is None else source_leaves(entry.expr):
            needed.setdefault(leaf.key, (leaf.shape, entry.target))
    return needed


def _near(key: str, spare: list[str]) -> str:
    """What the checkpoint has instead, if one of the keys that nobody reads looks like it."""
    same_leaf = [name for name in spare if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    near = get_close_matches(key, same_leaf[:CANDIDATES], n=1)
    return f" (there is {near[0]})" if near else ""
