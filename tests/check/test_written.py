from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from automatch.check.compare import check
from automatch.check.written import update, written
from automatch.cli import main
from automatch.core.expr import Affine, Concat, Expr, Gather, Permute, Slice, Source
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_json import dumps
from automatch.errors import MappingError, MappingFormatError
from tests.apply.records import block, entry, record, whole


def layered(depth: int, pairing: dict[int, int] | None = None) -> MappingRecord:
    pairing = pairing or {}
    return record(*(each for layer in range(depth) for each in block(layer, pairing.get(layer, layer))))


def weights(built: MappingRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(written(built))["weights"]
    return found


def test_a_mapping_is_written_with_a_line_for_every_rule() -> None:
    resized = ", ".join(f"resize(layers.{{i}}.{name}.weight, 4x4) * 1.5" for name in "qkv")
    assert written(whole()).split("\n") == [
        "{",
        '  "format": "automatch.expected",',
        '  "version": 1,',
        '  "layers": {"i": [0, 2]},',
        '  "weights": {',
        '    "conv": {"is": "patch[:, :, 1]"},',
        '    "same": {"is": "same"},',
        '    "new": {"is": "old"},',
        f'    "blocks.{{i}}.in_proj": {{"is": "cat({resized})", "form": "82ad755d871a"}},',
        '    "blocks.{i}.norm.weight": {"constant": 1.0},',
        '    "blocks.{i}.mlp.0.weight": {"is": "layers.{i}.fc.0.T"},',
        '    "blocks.{i}.mlp.2.weight": {"is": "layers.{i}.fc.2.T"},',
        '    "embed": {"is": "-1 + 2 * embed + type"},',
        '    "head": {"is": "-1 + 2 * embed + type"},',
        '    "steps": {"constant": 3.0},',
        '    "table": null',
        "  }",
        "}",
        "",
    ]


@pytest.mark.parametrize("built", [whole(), layered(5), layered(4, {1: 2, 2: 1}), layered(3, {1: 0}), record()])
def test_a_mapping_meets_what_was_written_of_it(built: MappingRecord) -> None:
    assert check(built, json.loads(written(built))).ok
    assert written(built) == written(replace(built))


def test_layers_and_experts_are_two_variables() -> None:
    built = record(*(entry(f"l.{i}.e.{j}", Source(f"m.{j}.x.{i + 1}", (2,))) for i in range(3) for j in range(4)))
    document = json.loads(written(built))
    assert document["weights"] == {"l.{i}.e.{j}": {"is": "m.{j}.x.{i}"}}
    assert document["layers"] == {"i": [1, 2, 3], "j": [0, 1, 2, 3]}


def test_two_numbers_of_one_size_in_a_key_are_two_variables() -> None:
    built = record(*(entry(f"l.{i}.e.{j}", Source(f"m.{i}.x.{j}", (2,))) for i in range(3) for j in range(3)))
    assert weights(built) == {"l.{i}.e.{j}": {"is": "m.{i}.x.{j}"}}


def test_numbers_that_do_not_count_from_zero_are_written_out() -> None:
    built = record(*(entry(f"norm.{i}", Source(f"n.{i}", (2,))) for i in (1, 3)))
    assert weights(built) == {"norm.1": {"is": "n.1"}, "norm.3": {"is": "n.3"}}


def test_one_entry_that_changes_changes_its_line_alone() -> None:
    before = record(entry("a", Source("x", (4,))), *block(0, 1), *block(1, 3), entry("b", Source("y", (4,))))
    after = replace(before, entries=(*before.entries[:-1], entry("b", Source("x", (4,)))))
    lines = zip(written(before).split("\n"), written(after).split("\n"), strict=True)
    assert [pair for pair in lines if pair[0] != pair[1]] == [('    "b": {"is": "y"}', '    "b": {"is": "x"}')]


def test_a_layer_that_changes_is_written_out_beside_the_others() -> None:
    built = [entry(f"b.{i}.w", Source(f"l.{i}.w", (2, 2))) for i in range(3)]
    built[1] = entry("b.1.w", Permute(Source("l.1.w", (2, 2)), (1, 0)))
    assert weights(record(*built)) == {"b.0.w": {"is": "l.0.w"}, "b.1.w": {"is": "l.1.w.T"}, "b.2.w": {"is": "l.2.w"}}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Source("x", (4, 4)), Permute(Source("x", (4, 4)), (1, 0))),
        (Gather(Source("x", (4,)), (2,), (0, 1)), Gather(Source("x", (4,)), (2,), (1, 0))),
        (Affine(Source("x", (4,)), 1.00000001), Affine(Source("x", (4,)), 1.00000002)),
        (Slice(Source("x", (4,)), 0, 0, 2), Slice(Source("x", (4,)), 0, 1, 3)),
        (Concat((Source("x", (2,)), Source("y", (2,)))), Concat((Source("y", (2,)), Source("x", (2,))))),
    ],
)
def test_a_mapping_of_another_expression_does_not_meet_it(one: Expr, other: Expr) -> None:
    document = json.loads(written(record(entry("w", one))))
    assert check(record(entry("w", one)), document).ok
    assert not check(record(entry("w", other)), document).ok


def test_keys_with_braces_are_refused() -> None:
    built = record(entry("a", Source("x.{i}", (2,))), entry("b{", Source("y", (2,))))
    with pytest.raises(MappingError, match=r"braces stand for variables .*\n  x\.\{i\}\n  b\{$"):
        written(built)


def test_a_file_that_is_met_keeps_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text('{"format": "automatch.expected", "version": 1, "weights": {"w": "x"}}')
    before = path.read_bytes()
    assert not update(record(entry("w", Permute(Source("x", (2, 3)), (1, 0)))), path)
    assert path.read_bytes() == before


def test_a_file_that_is_not_met_is_rewritten_and_then_met(tmp_path: Path) -> None:
    path = tmp_path / "e.json"
    path.write_text('{"format": "automatch.expected", "version": 1, "weights": {"w": "x"}}')
    assert update(whole(), path)
    assert path.read_text(encoding="utf-8") == written(whole())
    assert not update(whole(), path)


def test_a_mapping_file_or_a_damaged_file_is_never_overwritten(tmp_path: Path) -> None:
    mapping, damaged = tmp_path / "m.json", tmp_path / "d.json"
    mapping.write_text(dumps(whole()))
    damaged.write_text("<<<<<<<")
    with pytest.raises(MappingError, match="is a mapping file, not an expectation"):
        update(layered(2), mapping)
    with pytest.raises(MappingFormatError, match="not JSON"):
        update(layered(2), damaged)
    assert mapping.read_text() == dumps(whole())
    assert damaged.read_text() == "<<<<<<<"


def test_the_command_updates_only_when_told_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mapping, expected = tmp_path / "m.json", tmp_path / "e.json"
    mapping.write_text(dumps(whole()))
    words = ["check", str(mapping), str(expected)]
    assert main(words) == 2
    assert main([*words, "--update"]) == 0
    assert capsys.readouterr().out.endswith(f"\nwrote {expected}\n")
    assert main(words) == 0
    mapping.write_text(dumps(replace(whole(), entries=(*whole().entries[:-1], entry("table", None, shape=(1, 5, 4))))))
    changed = expected.read_text().replace('"table": null', '"table": "patch"')
    expected.write_text(changed)
    assert main(words) == 1
    assert expected.read_text() == changed
    assert "table: unmapped" in capsys.readouterr().out
    assert main([*words, "--update"]) == 0
    shown = capsys.readouterr().out
    assert "table: unmapped" in shown
    assert shown.endswith(f"wrote {expected}\n")
    assert expected.read_text() == written(whole())
