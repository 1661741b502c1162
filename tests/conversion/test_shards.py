from __future__ import annotations

import json

import pytest

from automatch.conversion.plan import Item
from automatch.conversion.shards import make_index, make_shards, parse_size
from automatch.conversion.team import shares
from automatch.core.expr import Source
from automatch.errors import CheckpointError


def item(key: str, rows: int, dtype: str = "float32") -> Item:
    return Item(key, (rows, 10), dtype, Source(key, (rows, 10)), "moved")


ITEMS = [item("c", 5), item("a", 5), item("large", 50), item("b", 1), item("d", 1, "bfloat16")]


def test_tensors_fill_files_in_their_order_and_a_large_one_has_its_own() -> None:
    shards = make_shards(ITEMS, "model", 450)
    assert [shard.name for shard in shards] == [f"model-0000{at}-of-00003.safetensors" for at in (1, 2, 3)]
    assert [sorted(each.key for each in shard.items) for shard in shards] == [["a", "c"], ["large"], ["b", "d"]]


def test_one_file_alone_has_no_number() -> None:
    assert [shard.name for shard in make_shards(ITEMS, "diffusion_pytorch_model", 10**6)] == [
        "diffusion_pytorch_model.safetensors"
    ]


def test_an_index_says_where_every_key_is_and_how_much_there_is() -> None:
    shards = make_shards(ITEMS, "model", 450)
    index = json.loads(make_index(shards))
    assert index["metadata"]["total_size"] == 5 * 40 * 2 + 2000 + 40 + 20
    assert index["weight_map"]["large"] == "model-00002-of-00003.safetensors"
    assert list(index["weight_map"]) == sorted(each.key for each in ITEMS)


def test_bytes_lie_one_after_the_other_widest_first() -> None:
    (shard,) = make_shards(ITEMS, "model", None)
    assert [each.key for each in shard.items] == ["a", "b", "c", "large", "d"]
    places = [shard.offsets[each.key] for each in shard.items]
    assert places[0] == len(shard.header)
    assert len(shard.header) % 8 == 0
    assert all(
        before + each.nbytes == after for before, each, after in zip(places, shard.items, places[1:], strict=False)
    )
    assert shard.size == places[-1] + shard.items[-1].nbytes


@pytest.mark.parametrize(
    ("text", "size"), [("5GB", 5 * 10**9), ("500mb", 5 * 10**8), ("2GiB", 2**31), (" 7 ", 7), (9, 9)]
)
def test_sizes_are_read_as_people_write_them(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-5GB", "0", "5 GBit", "1e9", "\u0665GB", "9" * 400])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match="is no size of a file; write it as 5GB"):
        parse_size(text)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 20])
def test_every_tensor_is_written_by_exactly_one_process(size: int) -> None:
    shards = make_shards(ITEMS, "model", 450)
    parts = shares(shards, size)
    assert len(parts) == size
    written = sorted((share.shard.name, each.key) for part in parts for share in part for each in share.items)
    assert written == sorted((shard.name, each.key) for shard in shards for each in shard.items)
    assert all(share.whole == (size <= 3) for part in parts for share in part)
