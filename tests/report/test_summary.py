from __future__ import annotations

from dataclasses import replace

import pytest

from automatch.core.mapping import Evidence, MappingRecord
from automatch.report.render import WIDTH, plain
from automatch.report.summary import summary
from tests.report.records import record


def lines(of: MappingRecord) -> list[str]:
    return plain(summary(of)).splitlines()


@pytest.mark.parametrize(
    "row",
    [
        "same name             1   11.1%  norm.weight <- norm.weight",
        "renamed               1   11.1%  text.weight <- text.0.weight",
        "concatenated          2   22.2%  layers.0.in_proj <- cat(blocks.0.{q,k,v}.weight)",
        "rearranged            1   11.1%  head.weight <- out.weight.T",
        "resized               1   11.1%  small.weight <- norm.weight",
        "conv3d to conv2d      1   11.1%  conv.weight <- patch.weight[:, :, 0:1].reshape(8, 3, 2, 2)",
        "from constants        1   11.1%  ln.weight <- ones(4)",
        "unmapped              1   11.1%  pos",
        "total                 9  100.0%",
    ],
)
def test_every_kind_of_change_has_its_row_with_count_share_and_example(row: str) -> None:
    assert row in lines(record())


@pytest.mark.parametrize(
    "line",
    [
        "Teacher -> Student",
        "  guessed          1",
        "  unmapped         1",
        "  layers           layers.{i} (2) <- blocks.{i} (4), uniform: 0 2",
        "  traced           source by torch.export, target by torch.export (draft)",
        "guessed: 1",
        "  text.weight <- text.0.weight",
        "      or out.weight (0.1 behind)",
        "  the source has no such table",
        "unused source weights: 12 of 22",
        "  layers 1 3 of blocks not sampled: 6 weights",
        "  blocks.{0..3}.cross.weight  4 unused",
        "  source: two names share one tensor",
        "  operator `frobnicate` is not understood",
    ],
)
def test_the_summary_says(line: str) -> None:
    assert line in lines(record())


def test_the_verdict_comes_first_with_the_reason_and_the_next_step() -> None:
    given = replace(record(), not_run="the source is on the meta device", next_step="pass twins")
    said = lines(given)
    assert said[0] == "not run: the source is on the meta device; to prove it: pass twins"
    assert said[1:3] == ["", "Teacher -> Student"]


def test_the_transfer_rate_is_stated() -> None:
    assert any(line.startswith("  transfer rate") for line in lines(record()))


def test_many_guesses_and_reasons_are_cut_with_their_number() -> None:
    (guess,) = (entry for entry in record().entries if entry.status == "guessed")
    unmapped = record().entries[-1]
    many = [replace(guess, target=f"g{i}") for i in range(9)]
    left = [replace(unmapped, target=f"u{i}", evidence=Evidence("structure", (f"reason {i}",))) for i in range(20)]
    said = lines(replace(record(), entries=(*many, *left)))
    assert "  ... and 3 more" in said
    assert "  ... and 8 more reasons" in said


def test_unmapped_keys_without_a_reason_are_still_listed() -> None:
    silent = replace(record().entries[-1], evidence=Evidence("names"))
    assert "  no reason is recorded" in lines(replace(record(), entries=(silent,)))


def test_no_line_is_wider_than_the_page() -> None:
    long = replace(record(), notes=("long " * 60,))
    assert max(map(len, lines(long))) <= WIDTH


def test_a_mapping_without_entries_has_a_summary() -> None:
    assert any(line.startswith("total") for line in lines(replace(record(), entries=())))


def test_square_brackets_in_keys_are_printed_as_they_are() -> None:
    entry = replace(record().entries[1], target="norm[bold]:x:")
    assert any("norm[bold]:x: <- norm.weight" in line for line in lines(replace(record(), entries=(entry,))))
