"""What the tests of exact matching share: tiny models recorded, run, and compared with a known conversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from automatch.apply.evaluate import evaluate as run
from automatch.core.expr import text
from automatch.exact.discover import Discovery, discover
from automatch.exact.form import Form, Leaf, Recipe, evaluate, form
from automatch.exact.gradients import Side, side
from automatch.exact.normalise import normalised
from automatch.exact.outputs import pair_outputs
from automatch.exact.search import Found, Search
from automatch.exact.snap import snap
from automatch.trace.inputs import normalise
from automatch.trace.program import Program, name_of, record

PLAIN = Recipe()
EFFECTIVE = Recipe(effective=True)
Values = Mapping[str, Tensor]
Pass = Callable[[Program], Program]


def recorded(model: nn.Module, *inputs: Tensor) -> Program:
    return normalised(record(model.eval(), normalise(inputs)))


def drawn(program: Program, seed: int = 0) -> dict[str, Tensor]:
    """Generic weights; positive, so that they can be variances."""
    chance = torch.Generator().manual_seed(seed)
    return {
        name: torch.rand(value.shape, generator=chance, dtype=torch.float64) + 0.2
        if value.is_floating_point()
        else value
        for name, value in program.values.items()
    }


def outputs(program: Program, values: Values) -> list[Tensor]:
    env: dict[fx.Node, Tensor] = {}
    for node in program.graph.nodes:
        if node.op == "placeholder":
            env[node] = values[program.weights[node]] if node in program.weights else program.fixed[node]
        else:
            args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), env.__getitem__)
            env[node] = node.target(*args, **kwargs)
    return [env[node] for node in program.outputs]


def same_function(before: Program, after: Program) -> bool:
    values = drawn(before)
    pairs = zip(outputs(before, values), outputs(after, values), strict=True)
    return all(bool(((x - y).abs() <= 1e-12 * (1 + x.abs())).all()) for x, y in pairs)


def operators(program: Program) -> list[str]:
    return [name_of(node) for node in program.graph.nodes if node.op == "call_function"]


def mismatched(source: Program, target: Program, convert: Callable[[Values], Values]) -> list[str]:
    """Target weights with an element that is not paired with its known counterpart; no element lacks one."""
    pairing = pair_outputs(source, target, EFFECTIVE)
    forms = form(source, pairing.source, EFFECTIVE), form(target, pairing.target, EFFECTIVE)
    snap(forms)
    ours, theirs = side(forms[0]), side(forms[1])
    found = Search(ours, theirs, pairing.shapes).run()
    assert found.fault == 0
    given = drawn(source)
    values = _flat(forms[0], given), _flat(forms[1], convert(given))
    first, second = found.colours()
    assert (second >= 0).any()
    place = {int(colour): index for index, colour in enumerate(first) if colour >= 0}
    return sorted(
        {
            theirs.form.leaves[int(theirs.leaf_of(np.array(index)))].weights[0]
            for index, colour in enumerate(second)
            if colour >= 0 and not np.isclose(values[0][place[int(colour)]], values[1][index], rtol=1e-9, atol=0)
        }
    )


def _flat(one: Form, values: Values) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.concatenate([evaluate(leaf, one, values).double().reshape(-1).numpy() for leaf in one.leaves])


def plain(model: nn.Module, *inputs: Tensor) -> Program:
    """A model as it was recorded, its spelling untouched."""
    return record(model.eval(), normalise(inputs))


def formed(model: nn.Module, *inputs: Tensor, recipe: Recipe = PLAIN, gathered: bool = False) -> Form:
    """A model as a function of its leaves."""
    program = normalised(plain(model, *inputs), gathered)
    return form(program, program.outputs, recipe)


def leaf_of(one: Form, *weights: str) -> Leaf:
    """The one leaf that these weights make."""
    (found,) = (leaf for leaf in one.leaves if leaf.weights == weights)
    return found


def searched(source: nn.Module, target: nn.Module, *inputs: Tensor, recipe: Recipe = PLAIN) -> tuple[Side, Side, Found]:
    """A search over two models on the same inputs."""
    programs = recorded(source, *inputs), recorded(target, *inputs)
    pairing = pair_outputs(*programs, recipe)
    forms = form(programs[0], pairing.source, recipe), form(programs[1], pairing.target, recipe)
    snap(forms)
    ours, theirs = side(forms[0]), side(forms[1])
    return ours, theirs, Search(ours, theirs, pairing.shapes).run()


def discovered(source: nn.Module, target: nn.Module, *inputs: Any, theirs: tuple[Any, ...] | None = None) -> Discovery:
    """What running two models finds out; they must look like one function."""
    found = discover(plain(source, *inputs), plain(target, *(inputs if theirs is None else theirs)))
    assert isinstance(found, Discovery), found
    return found


def texts(found: Discovery) -> dict[str, str]:
    """What every determined target weight is made of."""
    return {name: text(one.expr) for name, one in found.weights.items()}


def converted(found: Discovery, values: Values) -> dict[str, Tensor]:
    """The determined target weights for some source weights."""
    return {name: run(one.expr, values.__getitem__, dtype=torch.float64) for name, one in found.weights.items()}


def numbers(model: nn.Module) -> dict[str, Tensor]:
    """Generic values for a model's weights; positive, so that they can be variances."""
    chance = torch.Generator().manual_seed(3)
    state = model.state_dict().items()
    return {name: torch.rand(value.shape, generator=chance, dtype=torch.float64) + 0.2 for name, value in state}


def wrong(found: Discovery, source: nn.Module, expected: Callable[[Values], Values]) -> list[str]:
    """Target weights that are not determined or are not what was expected, on generic source weights."""
    values = numbers(source)
    made, right = converted(found, values), expected(values)
    return sorted(
        name
        for name, value in right.items()
        if name not in made or made[name].shape != value.shape or not torch.allclose(made[name], value, rtol=1e-9)
    )
