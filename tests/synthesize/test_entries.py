from __future__ import annotations

from dataclasses import replace
from math import sqrt

import pytest
import torch

from automatch.apply.evaluate import evaluate
from automatch.core.alignment import Alignment, Assignment, Form, Piece, Region, View
from automatch.core.expr import text
from automatch.core.graph import Graph, Node, Shape, Weight
from automatch.core.mapping import Entry, Evidence, Rival, Status
from automatch.synthesize import synthesize
from tests.support import weight

SEEN = Evidence("structure", ("both feed attention",), 0.5, 1.25, (Rival(("other",), "costs 1.25 more"),), (), 3)


def side(rung: str = "export", **shapes: Shape) -> Graph:
    return Graph(tuple(Weight(name, shape, "float32", "parameter") for name, shape in shapes.items()), rung=rung)  # type: ignore[arg-type]  # one of the rungs


AS_STORED = View()


def assigned(
    *pieces: Piece, view: View = AS_STORED, form: Form = "matrix", groups: int = 1, status: Status = "structural"
) -> Assignment:
    return Assignment("t", status, SEEN, pieces, 0, groups, view, form)


def entry(assignment: Assignment, source: Graph, target: Graph) -> Entry:
    (found,) = synthesize(Alignment((assignment,)), source, target)
    return found


def test_one_piece_is_the_source_itself() -> None:
    found = entry(assigned(Piece("a")), side(a=(4, 8)), side(t=(4, 8)))
    assert found.expr is not None
    assert text(found.expr) == "a"
    assert (found.target, found.shape, found.dtype, found.status) == ("t", (4, 8), "float32", "structural")


def test_the_evidence_is_kept() -> None:
    assert entry(assigned(Piece("a")), side(a=(4, 8)), side(t=(4, 8))).evidence == SEEN


@pytest.mark.parametrize(
    ("assignment", "stored", "expected"),
    [
        (assigned(Piece("a", View(axes=(1, 0)))), (4, 8), "a.T"),
        (assigned(Piece("b"), view=View(axes=(1, 0))), (8, 4), "b.T"),
        (assigned(Piece("a", View(axes=(1, 0))), view=View(axes=(1, 0))), (8, 4), "a"),
        (assigned(Piece("a", View(rows=Region(0, 4, 8)))), (4, 4), "a[4:8]"),
        (assigned(Piece("n", View(shift=1.0)), form="vector"), (8,), "1 + n"),
        (assigned(Piece("n"), view=View(shift=1.0), form="vector"), (8,), "-1 + n"),
        (assigned(Piece("n", View(shift=1.0)), view=View(shift=1.0), form="vector"), (8,), "n"),
        (assigned(Piece("n", View(scale=0.5)), form="vector"), (8,), "0.5 * n"),
        (assigned(Piece(None, value=1.0), form="vector"), (8,), "ones(8)"),
        (assigned(Piece(None), form="vector"), (8,), "zeros(8)"),
        (assigned(Piece("n"), form="vector"), (8, 1, 1), "n.reshape(8, 1, 1)"),
        (assigned(Piece("n", View(shape=(1, 8, 1))), form="vector"), (8,), "n"),
        (assigned(Piece("p", View(shape=(6, 4))), form="table"), (1, 6, 4), "p"),
    ],
)
def test_an_expression_undoes_the_targets_view_after_the_sources(
    assignment: Assignment, stored: Shape, expected: str
) -> None:
    source = side(a=(8, 4), b=(4, 8), n=(8,), p=(1, 6, 4))
    found = entry(assignment, source, side(t=stored))
    assert found.expr is not None
    assert text(found.expr) == expected
    assert found.evidence.resized == ()


def test_pieces_are_joined_in_order() -> None:
    pieces = [Piece(name, size=4) for name in "abc"]
    found = entry(assigned(*pieces), side(a=(4, 8), b=(4, 8), c=(4, 8)), side(t=(12, 8)))
    assert found.expr is not None
    assert text(found.expr) == "cat(a, b, c)"


def test_a_constant_may_stand_between_pieces() -> None:
    pieces = Piece("a", size=4), Piece(None, size=4), Piece("b", size=4)
    found = entry(assigned(*pieces, form="vector"), side(a=(4,), b=(4,)), side(t=(12,)))
    assert found.expr is not None
    assert text(found.expr) == "cat(a, zeros(4), b)"


def test_parts_are_fitted_before_they_are_joined() -> None:
    """The rows of a smaller fused weight come from the first rows of each part, not from the first part's rows."""
    parts = [Piece("qkv", View(rows=Region(0, start, start + 8)), size=4) for start in (0, 8, 16)]
    found = entry(assigned(*parts), side(qkv=(24, 8)), side(t=(12, 2)))
    assert found.expr is not None
    stored = weight(24, 8)
    expected = torch.cat([stored[start : start + 4, :2] for start in (0, 8, 16)]) * sqrt(8 / 2)
    torch.testing.assert_close(evaluate(found.expr, {"qkv": stored}.__getitem__), expected)
    assert len(found.evidence.resized) == 3
    assert [line.split(":")[0] for line in found.evidence.resized] == ["qkv[0", "qkv[8", "qkv[16"]


def test_parts_are_fitted_before_they_are_joined_in_groups() -> None:
    parts = [Piece(name, size=4) for name in "qkv"]
    found = entry(assigned(*parts, groups=2), side(q=(8, 4), k=(8, 4), v=(8, 4)), side(t=(12, 4)))
    assert found.expr is not None
    weights = {name: weight(8, 4) for name in "qkv"}
    heads = [weights[name][2 * head : 2 * head + 2] for head in range(2) for name in "qkv"]
    torch.testing.assert_close(evaluate(found.expr, weights.__getitem__), torch.cat(heads))


def test_only_the_parts_that_change_say_so() -> None:
    pieces = Piece("a", size=4), Piece("b", size=4)
    found = entry(assigned(*pieces), side(a=(4, 8), b=(6, 8)), side(t=(8, 8)))
    assert found.evidence.resized == ("b: [6, 8] to [4, 8], first 4 of 6 outputs",)
    assert replace(found.evidence, resized=()) == SEEN


def test_one_source_key_may_be_an_alias() -> None:
    source = Graph((Weight("first", (4, 8), "float32", "parameter", aliases=("second",)),))
    found = entry(assigned(Piece("second")), source, side(t=(4, 8)))
    assert found.sources == ("second",)


# Every key has an entry


def test_tied_keys_follow_the_key_that_comes_first() -> None:
    target = Graph((Weight("t", (4, 8), "float32", "parameter", aliases=("u",)),))
    entries = synthesize(Alignment((assigned(Piece("a")),)), side(a=(4, 8)), target)
    assert [(found.target, found.sources) for found in entries] == [("t", ("a",)), ("u", ("a",))]


def test_entries_stand_in_the_targets_order() -> None:
    target = side(x=(2,), t=(2,), y=(2,))
    entries = synthesize(Alignment((assigned(Piece("a"), form="vector"),)), side(a=(2,)), target)
    assert [(found.target, found.status) for found in entries] == [
        ("x", "unmapped"),
        ("t", "structural"),
        ("y", "unmapped"),
    ]


def test_a_refused_weight_keeps_its_reason() -> None:
    refused = Assignment("t", "unmapped", Evidence("structure", ("nothing plays this role",)))
    found = entry(refused, side(a=(2,)), side(t=(2,)))
    assert (found.status, found.expr, found.evidence) == ("unmapped", None, refused.evidence)


def test_a_guess_stays_a_guess() -> None:
    assert entry(assigned(Piece("a"), status="guessed"), side(a=(4, 8)), side(t=(4, 8))).status == "guessed"


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
@pytest.mark.parametrize("used", [True, False])
def test_a_weight_that_no_stage_spoke_of_says_why(kind: str, used: bool) -> None:
    nodes = (Node(0, "weight", target="t", shape=(2,), dtype="float32"),) if used else ()
    target = Graph((Weight("t", (2,), "float32", kind),), nodes, rung="export")  # type: ignore[arg-type]  # as given
    (found,) = synthesize(Alignment(()), side(a=(2,)), target)
    assert found.status == "unmapped"
    assert found.evidence.method == "structure"
    (reason,) = found.evidence.reasons
    assert ("does not use it" in reason) == (not used)


def test_without_code_the_reason_is_about_names() -> None:
    (found,) = synthesize(Alignment(()), side("names", a=(2,)), side("names", t=(2,)))
    assert (found.status, found.evidence.method) == ("unmapped", "names")
