from __future__ import annotations

import json
from typing import cast

import pytest
from hypothesis import given

from automatch.core.expr import Affine, Constant, Expr, Gather, Source
from automatch.core.expr_json import DEEPEST, from_json, to_json
from automatch.errors import MappingFormatError
from tests.apply.expressions import expressions

W = {"op": "source", "key": "w", "shape": [4, 2]}


@given(expressions())
def test_a_round_trip_through_json_text_is_the_identity(expr: Expr) -> None:
    assert from_json(json.loads(json.dumps(to_json(expr))), "$") == expr


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, "$: expected an object, found 3"),
        ({}, "$.op: this field is missing"),
        ({"op": ["source"]}, "$.op: expected one of source, constant, concat"),
        (
            {"op": "exec", "code": "1"},
            "$.op: expected one of source, constant, concat, slice, permute, reshape, affine",
        ),
        ({"op": "source", "key": "w"}, "$.shape: this field is missing"),
        ({**W, "dtype": "float32"}, "$.dtype: this field is not known here"),
        ({**W, "key": ""}, '$.key: expected text that is not empty, found ""'),
        ({**W, "shape": [4, -1]}, "$.shape[1]: expected an integer that is not negative, found -1"),
        ({**W, "shape": [4, True]}, "$.shape[1]: expected an integer, found true"),
        ({**W, "shape": "4x2"}, '$.shape: expected a list, found "4x2"'),
        ({"op": "constant", "value": None, "shape": [1]}, "$.value: expected a number, found null"),
        (
            {"op": "constant", "value": 10**400, "shape": [1]},
            "$.value: expected a number that fits a float, found 1000",
        ),
        ({"op": "constant", "value": "nan", "shape": [1]}, '$.value: expected a number, found "nan"'),
        ({"op": "constant", "value": float("inf"), "shape": [1]}, '$.value: expected a finite number, "inf" or "-inf"'),
        ({"op": "concat", "axis": 0, "parts": []}, "$: cat() needs at least one part"),
        ({"op": "concat", "axis": -1, "parts": [W]}, "$.axis: expected an integer that is not negative, found -1"),
        ({"op": "concat", "axis": 2, "parts": [W]}, "$.parts[0]: shape [4, 2] has no axis 2 to be joined along"),
        (
            {"op": "concat", "axis": 0, "parts": [W, {**W, "shape": [4, 3]}]},
            "$: cat along 0: parts differ off the axis",
        ),
        ({"op": "concat", "axis": 0, "parts": [W, {"op": "source"}]}, "$.parts[1].key: this field is missing"),
        ({"op": "slice", "axis": 0, "start": 2, "stop": 5, "of": W}, "$: [2:5] along axis 0 is outside shape [4, 2]"),
        ({"op": "slice", "axis": 0, "start": 2, "stop": "5", "of": W}, '$.stop: expected an integer, found "5"'),
        ({"op": "permute", "axes": [0, 0], "of": W}, "$: [0, 0] does not permute the axes of shape [4, 2]"),
        ({"op": "reshape", "shape": [3, 3], "of": W}, "$: cannot reshape [4, 2] to [3, 3]"),
        ({"op": "affine", "scale": "2", "shift": 0, "of": W}, '$.scale: expected a number, found "2"'),
        ({"op": "affine", "scale": 2, "shift": 0}, "$.of: this field is missing"),
        ({"op": "sum", "parts": [W, {**W, "shape": [3, 2]}]}, "$: cannot add shapes [[4, 2], [3, 2]]"),
        (
            {"op": "product", "parts": [W, {**W, "shape": [3, 2]}]},
            "$: cannot multiply shapes [[4, 2], [3, 2]]",
        ),
        ({"op": "elementwise", "function": "sin", "of": W}, "$.function: expected one of exp, log, sqrt"),
        ({"op": "reduce", "kind": "max", "axes": [0], "keepdim": False, "of": W}, "$.kind: expected one of sum, mean"),
        ({"op": "reduce", "kind": "sum", "axes": [0], "keepdim": 0, "of": W}, "$.keepdim: expected true or false"),
        ({"op": "reduce", "kind": "sum", "axes": [2], "keepdim": True, "of": W}, "does not have all of axes [2]"),
        ({"op": "gather", "shape": [2], "runs": [[7, 2, 1]], "of": W}, "$: gather: entry 8 is outside shape [4, 2]"),
        ({"op": "gather", "shape": [2], "runs": [[0, 3, 1]], "of": W}, "the runs make 3 indices, but the shape has 2"),
        ({"op": "gather", "shape": [2], "runs": [[0, 2]], "of": W}, "$: a run is [start, count, step]"),
        ({"op": "gather", "shape": [0], "runs": [[0, -1, 1], [0, 1, 1]], "of": W}, "with a count of at least 1"),
        ({"op": "gather", "shape": [10**12], "runs": [[0, 10**12, 0]], "of": W}, "at most 268435456"),
        (
            {"op": "gather", "shape": [2], "runs": [[0, "2", 1]], "of": W},
            '$.runs[0][1]: expected an integer, found "2"',
        ),
        (
            {"op": "resize", "shape": [8, 2], "fits": ["leading", "keep"], "scale": 1, "of": W},
            "'leading' cannot take 4",
        ),
        (
            {"op": "resize", "shape": [2, 2], "fits": ["crop", "keep"], "scale": 1, "of": W},
            "$.fits[0]: expected one of",
        ),
        ({"op": "resize", "shape": [4], "fits": ["keep"], "scale": 1, "of": W}, "differ in rank"),
        (
            {"op": "resize", "shape": [3], "fits": ["tile"], "scale": 1, "of": {**W, "shape": [0]}},
            "$.fits[0]: there is no entry for 'tile'",
        ),
    ],
)
def test_damage_is_refused_with_its_path(value: object, message: str) -> None:
    with pytest.raises(MappingFormatError) as caught:
        from_json(value, "$")
    assert message in str(caught.value)


def test_all_faults_of_one_expression_are_named() -> None:
    broken = {"op": "slice", "axis": "0", "start": -1, "of": {**W, "key": 5}, "step": 2}
    with pytest.raises(MappingFormatError) as caught:
        from_json(broken, "$.entries[7].expr")
    assert str(caught.value).split("\n") == [
        '$.entries[7].expr.axis: expected an integer, found "0"',
        "$.entries[7].expr.start: expected an integer that is not negative, found -1",
        "$.entries[7].expr.stop: this field is missing",
        "$.entries[7].expr.of.key: expected text, found 5",
        "$.entries[7].expr.step: this field is not known here",
    ]


def test_a_gather_is_stored_in_runs() -> None:
    gather = Gather(Source("w", (100,)), (3, 4), (9, 8, 7, 6, 5, 5, 5, 20, 40, 60, 80, 0))
    value = to_json(gather)
    assert value["runs"] == [[9, 5, -1], [5, 2, 0], [20, 4, 20], [0, 1, 0]]
    assert from_json(value, "$") == gather


def test_infinities_have_a_json_form() -> None:
    mask = Constant(float("-inf"), (2,))
    assert to_json(mask)["value"] == "-inf"
    assert from_json(to_json(mask), "$") == mask


def test_nan_is_not_written() -> None:
    with pytest.raises(ValueError, match="NaN has no place in a mapping"):
        to_json(Affine(Source("w", (2,)), scale=float("nan")))


def test_what_is_nested_without_end_is_refused_both_ways() -> None:
    deepest: Expr = Source("w", (2,))
    for _ in range(DEEPEST - 1):
        deepest = Affine(deepest, 2.0)
    assert from_json(to_json(deepest), "$") == deepest
    with pytest.raises(ValueError, match=f"more than {DEEPEST} operators"):
        to_json(Affine(deepest))
    value = cast("dict[str, object]", {"op": "affine", "scale": 1.0, "shift": 0.0, "of": to_json(deepest)})
    with pytest.raises(MappingFormatError, match=f"more than {DEEPEST} operators stand inside one another"):
        from_json(value, "$")
