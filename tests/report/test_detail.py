from __future__ import annotations

import pytest

from automatch.errors import MappingError
from automatch.report.detail import detail, listing, select
from automatch.report.render import plain
from tests.report.records import record


def page(key: str) -> str:
    return plain(part for entry in select(record(), key) for part in detail(record(), entry))


def test_the_listing_shows_layers_once_with_their_count() -> None:
    lines = plain(listing(record())).splitlines()
    assert "layers.{i}.in_proj      2  structural, cut  cat(~blocks.{j}.{q,k,v}.weight)" in lines
    assert lines[-3:] == ["i = 0 1", "j = 0 2  (in step with i)", "~ resized to the target's size"]


def test_the_listing_gives_the_reason_for_what_is_unmapped() -> None:
    assert "pos                     1  unmapped         (the source has no such table)" in plain(listing(record()))


def test_one_entry_tells_everything() -> None:
    said = page("layers.1.in_proj")
    assert "layers.1.in_proj  [12, 4] float32" in said
    assert "resize(blocks.2.k.weight, 4x4) * 1.414" in said
    assert "takes source layer 2" in said
    assert "blocks.2.v.weight: [8, 8] to [4, 4], leading entries, times 1.414" in said


def test_a_guess_tells_its_margin_and_rivals() -> None:
    said = page("text.weight")
    assert "margin      0.1 to the runner-up" in said
    assert "rivals      out.weight (0.1 behind)" in said


def test_an_unmapped_entry_tells_why() -> None:
    assert "why         the source has no such table" in page("pos")


def test_a_glob_selects_several_entries() -> None:
    assert [entry.target for entry in select(record(), "layers.*")] == ["layers.0.in_proj", "layers.1.in_proj"]


def test_a_source_key_selects_the_entries_that_read_it() -> None:
    assert [entry.target for entry in select(record(), "blocks.2.k.weight")] == ["layers.1.in_proj"]


def test_a_source_key_that_nothing_reads_is_said_to_be_unused() -> None:
    with pytest.raises(MappingError, match=r"'extra\.0\.bias' is used by no target weight"):
        select(record(), "extra.0.bias")


def test_an_unknown_key_names_near_ones() -> None:
    with pytest.raises(MappingError, match=r"'norm\.weigth'; did you mean norm\.weight"):
        select(record(), "norm.weigth")
