"""The benchmark of ordinary matches: its rows, its references, and what parent and child say to each other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import nn

import automatch
from fixtures import decoder
from fixtures.building import tokens, with_weights
from fixtures.twins_dense import FusedDecoder
from tests.benchmarks.ordinary import references, results, trees
from tests.benchmarks.ordinary.measuring import checked, measured
from tests.benchmarks.ordinary.pairs import Pair, Reference
from tests.benchmarks.ordinary.rows import ROWS, Aim, Row

FOUND = results.Found("a.py", (2_000_000, 1_000_000), 400, 500, 2.0, 3.5, {"proved": 4}, "proved", 4, 4, 1.9)


def tiny(reference: Reference | None) -> Pair:
    source = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    target = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2))
    return Pair(source.eval(), target.eval(), ((torch.randn(5, 3),), {}), reference)


def swapped(source: references.State, target: references.State) -> dict[str, torch.Tensor]:
    return {**references.same_names(source, target), "0.bias": source["0.bias"].flip(0)}


def tiny_row(reference: Reference | None, **more: Any) -> Row:
    return Row("tiny", "Tiny", (), partial(tiny, reference), **more)


def test_rows_are_told_apart_by_their_names() -> None:
    assert len({row.name for row in ROWS}) == len({row.title for row in ROWS}) == len(ROWS) == 13
    assert all(row.needs and row.name.replace("-", "").isalnum() for row in ROWS)
    assert [row.name for row in ROWS if row.large] == ["llama"]


def test_a_missing_library_is_named() -> None:
    assert replace(ROWS[0], needs=("torch", "no_such_library")).missing == ("no_such_library",)


def test_a_row_is_measured() -> None:
    fields = json.loads(json.dumps(measured(tiny_row(references.same_names))))
    found = results.found(fields)
    assert (found.right, found.of, found.verdict, found.numbers) == (4, 4, "proved", (26, 26))
    assert found.statuses == {"proved": 4}
    assert 0 < found.before_mb <= found.peak_mb
    assert found.meta_s is None


def test_a_wrong_weight_is_seen_beside_the_reference() -> None:
    found = results.found(measured(tiny_row(swapped)))
    assert (found.right, found.of) == (3, 4)
    assert list(found.missed(Aim())) == ["right"]


def test_a_student_is_measured_on_the_meta_device_as_well() -> None:
    found = results.found(measured(tiny_row(None, aim=Aim(times_meta=1.5))))
    assert (found.right, found.of) == (4, 4)
    assert found.meta_s is not None
    assert found.meta_s > 0


def test_references_are_checked_by_running_both_models() -> None:
    assert checked(tiny_row(references.same_names))["right"]
    assert not checked(tiny_row(swapped))["right"]
    assert checked(tiny_row(None))["right"]


@torch.no_grad()
def test_the_reference_of_the_fused_decoder_is_right() -> None:
    config = decoder.SMALL_LLAMA
    source = with_weights(lambda: decoder.Llama(config), seed=1)
    # the other side computes what is a table here
    source.model.inv_freq = decoder.Llama(config).model.inv_freq
    target = with_weights(lambda: FusedDecoder(config), seed=2)
    sizes = {"groups": config.kv_heads, "width": config.dim // config.heads}
    made = references.llama_to_fused(source.state_dict(), target.state_dict(), **sizes)
    target.load_state_dict(made, strict=True)
    ids = tokens(1, 12, vocabulary=config.vocabulary)
    torch.testing.assert_close(target(ids), source(ids), rtol=0, atol=1e-5)


def test_aims_that_are_missed_are_named() -> None:
    assert list(FOUND.missed(Aim(times_meta=1.5))) == []
    assert list(FOUND.missed(Aim(2.0, 0.5, 1.05))) == ["seconds", "memory", "meta"]


def test_the_table_shows_every_outcome() -> None:
    slower = replace(FOUND, wall_s=5.0, right=3)
    rows: list[tuple[Row, dict[str, results.Outcome]]] = [
        (ROWS[8], {"here": FOUND, "abc1234": slower}),
        (ROWS[0], {"here": "over 900", "abc1234": FOUND}),
    ]
    console = Console(width=200)
    with console.capture() as capture:
        console.print(results.table(rows))
    lines = [line.split() for line in capture.get().splitlines() if "here" in line or "abc1234" in line]
    assert [" ".join(line) for line in lines] == [
        "MobileNetV2 1.4 onto 0.5 (student) 2.0M to 1.0M here 2.0 3.5 x1.05 0.40 0.50 4 of 4 proved 4 proved met",
        "2.0M to 1.0M abc1234 5.0 x2.50 3.5 x2.63 0.40 0.50 3 of 4 proved 4 proved NOT met: meta, right",
        "MobileNetV2, torchvision to timm here over 900",
        "2.0M to 1.0M abc1234 2.0 3.5 x1.05 0.40 0.50 4 of 4 proved 4 proved met",
    ]


def test_another_tree_than_was_meant_is_an_error(tmp_path: Path) -> None:
    line = json.dumps({"automatch": automatch.__file__})
    assert results.answer(f"a library's greeting\n{line}\n", trees.ROOT) == {"automatch": automatch.__file__}
    with pytest.raises(results.OtherTree, match="was measured in place of"):
        results.answer(line, tmp_path)


def test_a_child_that_fails_or_takes_too_long_is_an_outcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = tmp_path / "child.py"
    child.write_text(
        "import os, sys, time\n"
        "time.sleep(60 if sys.argv[1] == 'slow' else 0)\n"
        "sys.exit(os.environ['PYTHONPATH'].split(os.pathsep)[0])\n"
    )
    monkeypatch.setattr(trees, "CHILD", child)
    assert trees.run("quick", trees.Tree("there", tmp_path), 30) == f"failed (1): {tmp_path}"
    assert trees.run("slow", trees.Tree("there", tmp_path), 0.2) == "over 0.2"


@pytest.mark.skipif(shutil.which("git") is None or not (trees.ROOT / ".git").exists(), reason="no git checkout")
def test_other_commits_are_checked_out_and_gone_afterwards() -> None:
    places: list[Path] = []

    def fail() -> None:
        with trees.checked_out(["HEAD", "HEAD"]) as found:
            places.extend(tree.path for tree in found)
            assert all((path / "automatch" / "__init__.py").exists() for path in places)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert places[0] == trees.ROOT
    assert len(places) == 3
    assert not any(path.exists() for path in places[1:])
    assert not any(str(path) in trees._git("worktree", "list") for path in places[1:])
