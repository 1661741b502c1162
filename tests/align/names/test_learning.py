"""Words learned from known mappings, and the data file that ships with the package."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from automatch.align.names.learning import KeyPair, known_pairs, learn
from automatch.core.expr import Concat, Expr, Slice, Source
from automatch.core.graph import Weight
from automatch.core.mapping import Entry, Evidence, MappingRecord, Side, Status
from automatch.known.library import shipped
from automatch.known.words import main, taught, words_of


def entry(target: str, expr: Expr, status: Status = "proved") -> Entry:
    return Entry(target, expr.shape, "float32", status, expr, Evidence("colours"))


def record(*entries: Entry) -> MappingRecord:
    old = dict.fromkeys(source for each in entries for source in each.sources)
    source = Side("Old", "export", tuple(Weight(name, (4, 4), "float32") for name in old))
    target = Side("New", "export", tuple(Weight(each.target, each.shape, "float32") for each in entries))
    return MappingRecord(source, target, entries)


def family(letters: str, source: str = "attn", target: str = "attention") -> list[KeyPair]:
    """Pairs in which one word stands for another, and as many in which both sides say the same."""
    apart = [(f"h.{source}.{letter}", f"h.{target}.{letter}") for letter in letters]
    return apart + [(f"h.mlp.{letter}{letter}", f"h.mlp.{letter}{letter}") for letter in letters]


def test_only_proved_entries_with_one_source_of_their_own_are_known() -> None:
    a, b, c, d = (Source(f"layers.0.{name}.weight", (4, 4)) for name in "abcd")
    found = known_pairs(
        record(
            entry("h.0.a.weight", a),
            entry("h.0.bc.weight", Concat((b, c), 0)),
            entry("h.0.d.weight", Slice(d, 0, 0, 2)),
            entry("h.0.e.weight", Slice(d, 0, 2, 4)),
            entry("h.0.f.weight", Source("layers.0.f.weight", (4, 4)), "structural"),
        )
    )

    assert found == (("layers.a.weight", "h.a.weight"),)


def test_blocks_that_repeat_a_pair_say_it_once() -> None:
    layers = [entry(f"h.{i}.a.weight", Source(f"layers.{i}.a.weight", (4, 4))) for i in range(3)]

    assert known_pairs(record(*layers)) == (("layers.a.weight", "h.a.weight"),)


def test_words_that_stand_for_each_other_in_several_mappings_are_learned() -> None:
    (found,) = learn([family("abcdef"), family("ghijkl"), family("mnoprs")])

    assert found.words == ("attention", "attn")
    assert found.families == 3


@pytest.mark.parametrize(
    "known",
    [
        pytest.param([family("abcdef"), family("ghijkl")], id="two mappings are too few"),
        pytest.param([family("abcdef")] * 3, id="what repeats an earlier mapping is no news"),
        pytest.param(
            [family("abcdef"), [(new, old) for old, new in family("abcdef")], family("abcdef")], id="nor is its inverse"
        ),
        pytest.param([family("a"), family("g"), family("m")], id="chance explains it"),
        pytest.param(
            [
                [*family(letters, "attn", "self"), *((f"h.attn.self.{x}", f"h.attn.self.{x}{x}") for x in letters[:3])]
                for letters in ("abcdef", "ghijkl", "mnoprs")
            ],
            id="what stands side by side means two things",
        ),
    ],
)
def test_what_is_not_learned(known: list[list[KeyPair]]) -> None:
    assert ("attention", "attn") not in [found.words for found in learn(known)]
    assert ("attn", "self") not in [found.words for found in learn(known)]


def test_the_shipped_file_is_what_the_shipped_conversions_teach_byte_for_byte(tmp_path: Path) -> None:
    out = tmp_path / "learned.json"

    assert main(["--out", str(out)]) == 0
    assert out.read_bytes() == files("automatch.align.names").joinpath("learned.json").read_bytes()


def test_only_what_a_run_proved_of_a_known_conversion_is_learned_from() -> None:
    known = next(each for each in shipped() if each.name == "transformers-bert to torch-encoder")
    found = dict(taught(known))

    assert found["bert.embeddings.word_embeddings.weight"] == "tok_embed.weight"
    assert "bert.embeddings.position_embeddings.weight" not in found


def test_the_order_of_conversions_does_not_matter() -> None:
    pairs = [(str(at), family(letters)) for at, letters in enumerate(("abcdef", "ghijkl", "mnoprs"))]

    assert words_of(reversed(pairs)) == words_of(pairs) != ()


def test_a_library_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--library", str(tmp_path / "none"), "--out", str(tmp_path / "learned.json")]) == 2
    assert "none is no folder" in capsys.readouterr().err
    assert not (tmp_path / "learned.json").exists()
