from __future__ import annotations

from dataclasses import replace

from automatch.core.mapping import LayerPairing
from automatch.report.unused import layers_line, unused
from tests.report.records import record


def test_layers_not_taken_are_told_from_names_that_no_layer_uses() -> None:
    left = unused(record())
    (part,) = left.skipped
    assert (part.chain, part.layers, len(part.keys)) == ("blocks", (1, 3), 6)
    assert [pattern.text for pattern in left.patterns] == ["extra.{0,1}.bias", "blocks.{0..3}.cross.weight"]


def test_every_unused_key_is_counted_once() -> None:
    left = unused(record())
    counted = [key for part in left.skipped for key in part.keys]
    counted += [key for pattern in left.patterns for key in pattern.keys]
    assert sorted(counted) == sorted(record().unused)


def test_a_chain_without_a_common_name_leaves_patterns_only() -> None:
    described = replace(record(), chains=(LayerPairing("4 blocks of 4 weights", "layers.{i}", 4, "uniform", (0, 2)),))
    left = unused(described)
    assert left.skipped == ()
    assert "blocks.{1,3}.q.weight" in [pattern.text for pattern in left.patterns]


def test_a_chain_named_twice_is_reported_once_with_all_the_layers_taken() -> None:
    (chain,) = record().chains
    twice = replace(record(), chains=(chain, replace(chain, layers=(1, 2))))
    (part,) = unused(twice).skipped
    assert part.layers == (3,)


def test_the_pairing_of_layers_is_one_line() -> None:
    chain = LayerPairing("blocks.{i}", "blocks.{i}", 40, "uniform", tuple(i * 40 // 16 for i in range(16)))
    assert layers_line(chain).startswith("blocks.{i} (16) <- blocks.{i} (40), uniform: 0 2 5 7 10")
