from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from automatch.cli.inputs import DTYPES, InputShape, as_inputs, beside, from_factory, from_shapes, parse_shape
from automatch.cli.references import Factory, named
from automatch.errors import InputsError, ModelError

CODE = """
import torch

def net(): ...
def net_inputs(): return torch.zeros(2)
def other(): ...
def pair(): return (torch.zeros(1),), {"mask": torch.ones(2)}
def needs(x): return x
def raises(): raise KeyError("x")
def wrong(): return 3
def drawn(): return torch.randn(3)
value = (torch.zeros(3),)
"""


@pytest.fixture
def model(tmp_path: Path) -> Factory:
    (tmp_path / "nets.py").write_text(CODE)
    return named(str(tmp_path / "nets.py"), "net")


@given(
    st.sampled_from(["", "x", "pixel_values"]),
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(0, 99), max_size=5),
    st.sampled_from([",", ", "]),
)
def test_every_text_of_the_grammar_is_read(name: str, dtype: str, sizes: list[int], comma: str) -> None:
    text = f"{name}={dtype}[{comma.join(map(str, sizes))}]"
    assert parse_shape(text) == InputShape(name, DTYPES[dtype], tuple(sizes))


@pytest.mark.parametrize(
    ("text", "culprit"),
    [
        ("", "no input shape"),
        ("x", "no input shape"),
        ("x=f32", "no input shape"),
        ("x=f32[1,2", "no input shape"),
        ("x=f32[[1]]", "no input shape"),
        ("x=y=f32[1]", "no input shape"),
        ("x=float[1]", "dtype 'float' is unknown"),
        ("2x=f32[1]", "'2x' is no argument name"),
        ("x=f32[1,,2]", "'' is no size"),
        ("x=f32[-1]", "'-1' is no size"),
        ("x=f32[1.5]", "'1.5' is no size"),
        ("x=f32[B,2]", "'B' is no size"),
    ],
)
def test_a_text_outside_the_grammar_is_shown_with_it(text: str, culprit: str) -> None:
    with pytest.raises(InputsError) as caught:
        parse_shape(text)
    assert repr(text) in str(caught.value)
    assert culprit in str(caught.value)
    assert "[NAME=]DTYPE[SIZE,...] with DTYPE one of f64 f32" in str(caught.value)


def test_named_shapes_become_keyword_arguments_and_others_positional_ones() -> None:
    args, kwargs = from_shapes(["f32[1,2]", "mask=bool[3]", "=i64[]"])
    assert [(tuple(a.shape), a.dtype) for a in args] == [
        ((1, 2), torch.float32),
        ((), torch.int64),
    ]
    assert kwargs["mask"].dtype == torch.bool


def test_shapes_have_no_content_which_is_drawn_where_the_model_is_run() -> None:
    args, kwargs = from_shapes(["bf16[3,4]", "ids=i64[2,3]"])
    assert all(tensor.is_meta for tensor in (*args, *kwargs.values()))


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(InputsError, match="'x' is given more than once"):
        from_shapes(["x=f32[1]", "x=f32[2]"])


def test_inputs_beside_a_factory_are_found_by_their_name(model: Factory) -> None:
    assert beside(model) == "net_inputs"
    assert beside(named(model.reference, "other")) is None


@pytest.mark.parametrize("name", ["pair", "value", "net_inputs"])
def test_a_function_or_a_value_of_the_same_file_gives_inputs(model: Factory, name: str) -> None:
    args, _ = from_factory(name, model)
    assert isinstance(args[0], torch.Tensor)


def test_what_is_drawn_is_the_same_every_time_and_leaves_the_callers_numbers_alone(model: Factory) -> None:
    torch.manual_seed(5)
    (first,), _ = from_factory("drawn", model)
    here = torch.rand(1)
    (second,), _ = from_factory("drawn", model)
    torch.manual_seed(5)
    assert torch.equal(first, second)
    assert torch.equal(here, torch.rand(1))


def test_inputs_may_come_from_another_file(model: Factory, tmp_path: Path) -> None:
    (tmp_path / "more.py").write_text("import torch\ndef make(): return {'x': torch.zeros(4)}")
    assert from_factory(f"{tmp_path / 'more.py'}:make", model)[1]["x"].device.type == "cpu"


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("pairs", ModelError, r"nets\.py has no 'pairs'; did you mean pair"),
        ("needs", InputsError, r"nets\.py:needs needs arguments \(x\)"),
        ("raises", InputsError, r"nets\.py:raises failed: KeyError: 'x' \(nets\.py:9\)"),
        ("wrong", InputsError, r"nets\.py:wrong gives 3; expected \(args, kwargs\)"),
        ("no.py:make", ModelError, r"there is no file 'no\.py'"),
    ],
)
def test_inputs_that_cannot_be_had_say_why(model: Factory, name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        from_factory(name, model)


def test_every_form_of_inputs_is_understood() -> None:
    x = torch.zeros(1)
    assert as_inputs(((x,), {"m": x}), "f") == ((x,), {"m": x})
    assert as_inputs([x, x], "f") == ((x, x), {})
    assert as_inputs((x, x), "f") == ((x, x), {})
    assert as_inputs({"m": x}, "f") == ((), {"m": x})
    assert as_inputs(x, "f") == ((x,), {})


@pytest.mark.parametrize("value", [None, 3, "x", 1.5])
def test_what_is_no_inputs_is_refused(value: object) -> None:
    with pytest.raises(InputsError, match="expected"):
        as_inputs(value, "f")
