"""How the tensors of a plan are spread over files, and every file's first bytes.

Names and index are those that `transformers`, `diffusers` and `huggingface_hub` look for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from automatch.checkpoint.digests import DIGESTS, UNKNOWN, listed
from automatch.checkpoint.safetensors_header import encode_header
from automatch.conversion.plan import Item
from automatch.core.mapping_json import MADE_BY
from automatch.errors import CheckpointError

METADATA = {"format": "pt"}
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


@dataclass(frozen=True, slots=True)
class Shard:
    """One file to write.

    Attributes:
        name: Its name.
        header: Its first bytes.
        items: Its tensors, in the order of their bytes.
        offsets: Where in the file each tensor's first byte lies, by key.
        size: Its size in bytes.
        metadata: The free text in its header.
    """

    name: str
    header: bytes
    items: tuple[Item, ...]
    offsets: Mapping[str, int]
    size: int
    metadata: Mapping[str, str]

    def with_metadata(self, metadata: Mapping[str, str]) -> Shard:
        """The same with other free text of the same length."""
        header, _ = encode_header([(item.key, item.dtype, item.shape) for item in self.items], metadata)
        assert len(header) == len(self.header), "the tensors would move"
        return replace(self, header=header, metadata=metadata)


def parse_size(text: str | int) -> int:
    """A number of bytes from its text: decimal units as the ecosystem counts them, binary ones with an i.

    Raises:
        CheckpointError: The text is no size, or not above zero.

    Example:
        >>> parse_size("5GB"), parse_size("1.5 MiB"), parse_size(1000)
        (5000000000, 1572864, 1000)
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]I?)?B?\s*", str(text).upper(), re.ASCII)
    size = float(match[1]) * _UNITS[match[2] or ""] if match else 0
    if not 1 <= size < inf:
        raise CheckpointError(f"{text!r} is no size of a file; write it as 5GB, 500MB or 2GiB")
    return int(size)


def make_shards(
    items: Sequence[Item], base: str, limit: int | None, made_by: str = "", *, digests: bool = False
) -> tuple[Shard, ...]:
    """Spread tensors over files, in their order, each filled up to the limit.

    A tensor larger than the limit has a file of its own. One file alone is called `BASE.safetensors`.

    Args:
        items: The tensors.
        base: What the names begin with.
        limit: Bytes of tensors a file; None for one file.
        made_by: The digest of the mapping that they are made by, for every file's metadata.
        digests: Whether there is room in every file's metadata for digests of its tensors.
    """
    metadata = {**METADATA, MADE_BY: made_by} if made_by else METADATA
    groups = list(_groups(items, limit))
    if len(groups) == 1:
        return (_shard(f"{base}.safetensors", groups[0], metadata, digests),)
    names = [f"{base}-{place:05d}-of-{len(groups):05d}.safetensors" for place in range(1, len(groups) + 1)]
    return tuple(_shard(name, group, metadata, digests) for name, group in zip(names, groups, strict=True))


def make_index(shards: Sequence[Shard]) -> bytes:
    """The index of several files, as `transformers` writes it."""
    places = {item.key: shard.name for shard in shards for item in shard.items}
    total = sum(item.nbytes for shard in shards for item in shard.items)
    content = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
    return (json.dumps(content, indent=2) + "\n").encode()


def index_name(base: str) -> str:
    """What the index is called."""
    return f"{base}.safetensors.index.json"


def _groups(items: Sequence[Item], limit: int | None) -> Iterator[list[Item]]:
    group: list[Item] = []
    size = 0
    for item in items:
        if group and limit is not None and size + item.nbytes > limit:
            yield group
            group, size = [], 0
        group.append(item)
        size += item.nbytes
    yield group


def _shard(name: str, items: Sequence[Item], metadata: Mapping[str, str], digests: bool) -> Shard:
    if digests:
        metadata = {**metadata, DIGESTS: listed(dict.fromkeys((item.key for item in items), UNKNOWN))}
    header, offsets = encode_header([(item.key, item.dtype, item.shape) for item in items], metadata)
    # Empty tensors share a place with their successor.
    in_order = sorted(items, key=lambda item: (offsets[item.key], item.nbytes))
    return Shard(name, header, tuple(in_order), offsets, len(header) + sum(item.nbytes for item in items), metadata)
