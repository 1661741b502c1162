"""What was left unused on the source side, and why a whole layer may be among it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from automatch.core.mapping import LayerPairing, MappingRecord
from automatch.report.patterns import Pattern, collapse


@dataclass(frozen=True, slots=True)
class Skipped:
    """Layers of a chain that no target layer takes.

    Attributes:
        chain: What the layers are called, without the number (`"blocks"`).
        layers: The numbers of the layers.
        keys: Their keys that another layer of the chain is used for.
    """

    chain: str
    layers: tuple[int, ...]
    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unused:
    """Source weights that no entry reads.

    Attributes:
        skipped: Weights that are unused only because their layer was not taken.
        patterns: All others: no layer's weight of that name is used.
    """

    skipped: tuple[Skipped, ...]
    patterns: tuple[Pattern, ...]


def unused(record: MappingRecord) -> Unused:
    """The source weights that no entry of the mapping reads, sorted by why."""
    left = dict.fromkeys(record.unused)
    found = [_skipped(template, record, left) for template in dict.fromkeys(chain.source for chain in record.chains)]
    skipped = tuple(part for part in found if part.keys)
    explained = {key for part in skipped for key in part.keys}
    return Unused(skipped, collapse(key for key in left if key not in explained))


def _skipped(template: str, record: MappingRecord, left: Iterable[str]) -> Skipped:
    place = _layer_pattern(template)
    taken = {layer for chain in record.chains if chain.source == template for layer in chain.layers}
    roles = _used_roles(record, place, set(left))
    placed = [(key, found) for key in left if (found := place.match(key))]
    keys = [key for key, found in placed if int(found[1]) not in taken and key[found.end() :] in roles]
    layers = {int(found[1]) for key, found in placed if int(found[1]) not in taken}
    return Skipped(template.removesuffix(".{i}"), tuple(sorted(layers)), tuple(keys))


def _used_roles(record: MappingRecord, place: re.Pattern[str], left: set[str]) -> set[str]:
    """Names within a layer (`"attn.q.weight"`) that are used in at least one layer."""
    used = (weight.name for weight in record.source.weights if weight.name not in left)
    return {key[found.end() :] for key in used if (found := place.match(key))}


def _layer_pattern(template: str) -> re.Pattern[str]:
    """Finds the number where a chain's name has `{i}`; a name without it describes, and is found nowhere."""
    before, mark, after = template.partition("{i}")
    return re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}(?:\.|$)") if mark else re.compile(r"(?!)(.)")


def layers_line(chain: LayerPairing) -> str:
    """How a chain's layers were paired, in one line.

    Example:
        >>> layers_line(LayerPairing("h.{i}", "layers.{i}", 4, "uniform", (0, 2)))
        'layers.{i} (2) <- h.{i} (4), uniform: 0 2'
    """
    taken = " ".join(map(str, chain.layers))
    return f"{chain.target} ({len(chain.layers)}) <- {chain.source} ({chain.source_depth}), {chain.policy}: {taken}"
