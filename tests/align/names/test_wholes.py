"""Guesses and gaps that follow their blocks, or what is left in order or by shape."""

from __future__ import annotations

import pytest

from automatch.align.names import align_names
from automatch.align.names.regular import regular
from automatch.align.names.vocabulary import resemblance, vocabulary, with_learned
from automatch.align.names.wholes import in_force, wholes
from automatch.core.alignment import Assignment, Piece
from automatch.core.graph import Weight
from automatch.core.mapping import Evidence, LayerPairing, Status
from tests.align.names.keylists import Keys, batch_norm, graph


def weights(keys: Keys) -> tuple[Weight, ...]:
    return tuple(Weight(key, shape, "float32") for key, shape in keys.items())


def taken(key: str, source: str, status: Status = "guessed") -> Assignment:
    return Assignment(key, status, Evidence("names"), (Piece(source),))


def sources(found: dict[str, Assignment]) -> dict[str, str | None]:
    return {key: each.pieces[0].source for key, each in found.items()}


OURS: Keys = {f"in.{i}.{name}": (4, 4) for i in range(3) for name in ("norm", "conv")}
THEIRS: Keys = {f"down.{i}.{name}": (4, 4) for i in range(3) for name in ("n", "c")}


def test_a_guess_follows_its_block() -> None:
    done = {f"down.{i}.n": taken(f"down.{i}.n", f"in.{i}.norm", "structural") for i in range(3)}
    done |= {f"down.{i}.c": taken(f"down.{i}.c", f"in.{(i + 1) % 3}.conv") for i in range(3)}
    found = wholes(weights(OURS), weights(THEIRS), done)

    assert sources(found) == {f"down.{i}.c": f"in.{i}.conv" for i in range(3)}
    assert {each.status for each in found.values()} == {"guessed"}
    assert found["down.0.c"].evidence.rivals[0].sources == ("in.1.conv",)


def test_a_gap_is_filled_from_its_block() -> None:
    done = {f"down.{i}.n": taken(f"down.{i}.n", f"in.{2 - i}.norm", "structural") for i in range(3)}
    done |= {"down.0.c": taken("down.0.c", "in.2.conv")}
    found = wholes(weights(OURS), weights(THEIRS), done)

    assert sources(found) == {"down.1.c": "in.1.conv", "down.2.c": "in.0.conv"}


def test_what_is_kept_stays() -> None:
    done = {f"down.{i}.n": taken(f"down.{i}.n", f"in.{i}.norm", "structural") for i in range(3)}
    done |= {f"down.{i}.c": taken(f"down.{i}.c", f"in.{(i + 1) % 3}.conv") for i in range(3)}

    assert wholes(weights(OURS), weights(THEIRS), done, frozenset(THEIRS)) == {}


def test_what_alone_contradicts_its_block_is_doubted() -> None:
    ours: Keys = {f"in.{i}.{name}": (4, 4) for i in range(3) for name in "pqr"}
    theirs: Keys = {f"out.{i}.{name}": (4, 4) for i in range(3) for name in "xyz"}
    words = dict(zip("xyz", "pqr", strict=True))
    done = {
        f"out.{i}.{new}": taken(f"out.{i}.{new}", f"in.{i}.{old}", "structural")
        for i in range(3)
        for new, old in words.items()
        if (i, new) != (1, "z")
    }
    done["out.0.z"] = taken("out.0.z", "in.1.r", "structural")
    found = wholes(weights(ours), weights(theirs), done)

    assert found["out.0.z"].pieces == (Piece("in.0.r"),)
    assert found["out.0.z"].status == "guessed"


def test_pairings_that_are_not_followed_are_not_stated() -> None:
    pairings = [LayerPairing("a.{i}", f"stage.{name}.{{i}}", 2, "uniform", (0, 1)) for name in ("1", "2")]

    assert in_force(pairings, ["stage.2.0.conv.weight"]) == (pairings[0],)


def test_blocks_that_the_draft_leaves_open_in_great_numbers_stay_open(monkeypatch: pytest.MonkeyPatch) -> None:
    ours: Keys = {f"a.{i}.{name}": (2, 2) for i in range(4) for name in "pq"}
    theirs: Keys = {f"b.{i}.{name}": (2, 2) for i in range(4) for name in "xy"}
    draft = {"b.0.x": "a.0.p", "b.0.y": "a.0.q", "b.1.x": "a.1.p"}
    assert len(regular(draft, frozenset(), ours, theirs)) == 8

    monkeypatch.setattr("automatch.align.names.regular.MOST", 8)
    assert regular(draft, frozenset(), ours, theirs) == {"b.0.x": "a.0.p", "b.0.y": "a.0.q"}


def test_the_only_weight_of_its_shape_that_is_left_in_a_block_is_a_guess_whatever_its_name() -> None:
    ours: Keys = {f"layers.{i}.attn.q.weight": (8, 8) for i in range(2)}
    ours |= {f"layers.{i}.modulation": (1, 6, 8) for i in range(2)}
    theirs: Keys = {f"blocks.{i}.attn.q.weight": (8, 8) for i in range(2)}
    theirs |= {f"blocks.{i}.qqq_zzz": (6, 8) for i in range(2)}
    found = {each.target: each for each in align_names(graph(ours), graph(theirs)).assignments}

    assert [piece.source for piece in found["blocks.1.qqq_zzz"].pieces] == ["layers.1.modulation"]
    assert found["blocks.1.qqq_zzz"].status == "guessed"


def test_residual_stages_under_other_names_are_taken_block_by_block() -> None:
    old: Keys = {}
    new: Keys = {}
    for stage in range(1, 4):
        for unit in range(2):
            for part in (1, 2):
                here, there = f"layer{stage}.{unit}", f"features.stage{stage}.unit{unit + 1}.body.conv{part}"
                old |= {f"{here}.conv{part}.weight": (8, 8, 3, 3)} | batch_norm(f"{here}.bn{part}", 8)
                new |= {f"{there}.conv.weight": (8, 8, 3, 3)} | batch_norm(f"{there}.bn", 8)
    found = align_names(graph(old), graph(new)).assignments
    homes: dict[str, set[str]] = {}
    for each in found:
        block = ".".join(each.target.split(".")[:3])
        homes.setdefault(block, set()).update(".".join((p.source or "").split(".")[:2]) for p in each.pieces)

    assert all(len(sources) == 1 for sources in homes.values())


def test_other_learned_words_hold_inside_and_not_after() -> None:
    assert resemblance("proj", "projection") == 0.9
    with with_learned([]):
        assert resemblance("proj", "projection") == 0.75
        with with_learned([("trunk", "backbone")]):
            assert resemblance("trunk", "backbone") == 0.9
        assert resemblance("trunk", "backbone") == 0.0
    assert resemblance("proj", "projection") == 0.9


def test_other_learned_words_do_not_outlast_an_error() -> None:
    before = vocabulary().groups
    with pytest.raises(ZeroDivisionError), with_learned([]):
        raise ZeroDivisionError
    assert vocabulary().groups == before
