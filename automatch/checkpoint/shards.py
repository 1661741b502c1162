"""The catalogs of shards -> one catalog, where they and their index agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from automatch.checkpoint.catalog import Catalog
from automatch.checkpoint.index import Index
from automatch.errors import CheckpointError, together


def joined(index: Index, shards: Mapping[str, Catalog]) -> Catalog:
    """One catalog for all shards, in the order of the index.

    Args:
        index: Which shards there are, and what it says of keys.
        shards: What each shard holds.

    Raises:
        CheckpointError: Two shards hold the same key, or the index and the shards contradict each other; everything
            that is wrong is listed.
    """
    holders: dict[str, list[str]] = {}
    for shard, catalog in shards.items():
        for key in catalog.views:
            holders.setdefault(key, []).append(shard)
    told = index.weight_map if index.weight_map is not None else {key: names[0] for key, names in holders.items()}
    problems = list(_contradictions(told, holders, {shard: catalog.views for shard, catalog in shards.items()}))
    if problems:
        listed = together(CheckpointError, f"{index.path}: index and shards contradict each other:", problems)
        raise CheckpointError(f"{listed}\nNext: fetch the index and the shards again, all of one version.")
    weights = {key: weight for catalog in shards.values() for weight in catalog.weights for key in weight.keys}
    ordered = tuple(dict.fromkeys(weights[key] for key in told))
    used = [file for catalog in shards.values() for file in catalog.files]
    own = [index.path] if index.path.is_file() else []
    return Catalog(
        index.path,
        ordered,
        {key: shards[shard].views[key] for key, shard in told.items()},
        {name: block for catalog in shards.values() for name, block in catalog.stored.items()},
        tuple(dict.fromkeys([*own, *used])),
        (*index.notes, *(f"{shard}: {note}" for shard, catalog in shards.items() for note in catalog.notes)),
        _agreed([catalog.metadata for catalog in shards.values()]),
    )


def _agreed(told: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """What all shards say alike."""
    first, *others = told or [{}]
    return {key: text for key, text in first.items() if all(other.get(key) == text for other in others)}


def _contradictions(
    told: Mapping[str, str], holders: Mapping[str, list[str]], held: Mapping[str, Mapping[str, object]]
) -> Iterator[str]:
    for key, names in holders.items():
        if len(names) > 1:
            yield f"{key}: in {' and in '.join(sorted(names))}; a key may be in one shard only"
    for key, shard in told.items():
        if key not in held[shard]:
            yield f"{key}: not in {shard}, where the index places it"
    for key, (shard, *more) in holders.items():
        if not more and told.get(key) != shard:
            yield f"{key}: in {shard}, but the index does not say so"
