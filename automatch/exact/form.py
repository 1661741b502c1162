"""A program rewritten as a function of its leaves: what colouring runs.

A *leaf* is a tensor of unknowns. By default it is a weight under one scalar affine: `w`, `1 + w`, `w * sqrt(d)`. The
affine is folded into the leaf, so that `1 + w` here and `w` there are the same unknowns. A weight that is used under
two affines is two leaves; with `by_use`, every use is a leaf of its own, for pairs whose sides share weights
differently. With `effective`, a value that several weights make together (a weight norm, `cls + pos`) is one leaf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, fx

from automatch.exact import surrogates
from automatch.exact.normalise import ancestors, shape_of, weights_only
from automatch.exact.ops import MOVES, RANDOM, SCALINGS
from automatch.trace.program import Program, name_of


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a program is read.

    Attributes:
        by_use: Whether every use of a weight is a leaf of its own.
        effective: Whether values made of several weights alone are leaves.
        smooth: Whether normalisations and selections have stand-ins.
        flat: Whether all leaves but biases start from one value, for pairs in which one side sums the products of a
            contraction by hand, or in parts.
        folded: Whether scales are moved into the weights before them: those of a batch norm after a convolution, and
            the scalar of attention scores into the query's weight.
    """

    by_use: bool = False
    effective: bool = False
    smooth: bool = True
    flat: bool = False
    folded: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Leaf:
    """A tensor of unknowns: `scale * root + shift`.

    Attributes:
        root: The placeholder of the weight, or the node whose value is the leaf.
        scale: Factor on the stored values.
        shift: Term on the stored values.
        shape: Its shape, the stored weight's.
        weights: The names of the weights that make it; one unless it is effective.
        floating: Whether it holds floating-point numbers; others are not unknowns.
        repeats: Axes of the root along which it only repeats itself; the leaf has one entry there.
    """

    root: fx.Node
    scale: float
    shift: float
    shape: tuple[int, ...]
    weights: tuple[str, ...]
    floating: bool
    repeats: tuple[int, ...] = ()

    @property
    def compound(self) -> bool:
        """Whether operations on weights make it."""
        return self.root.op != "placeholder"

    @property
    def size(self) -> int:
        """How many elements it has."""
        return prod(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A program as a function of its leaves.

    Attributes:
        program: What was rewritten.
        leaves: In order of first use.
        module: Its `forward` takes leaf values in that order to the chosen outputs; its buffers are the constants.
        readers: By leaf, the operators that read it after it was moved, with the place among their tensor operands.
        static: Values of the nodes that depend on no weight.
        held: The nodes whose value is a leaf that was only moved and scaled.
        recipe: How the program was read.
    """

    program: Program
    leaves: tuple[Leaf, ...]
    module: fx.GraphModule
    readers: tuple[tuple[tuple[fx.Node, int], ...], ...]
    static: Mapping[fx.Node, Any]
    held: frozenset[fx.Node]
    recipe: Recipe

    def run(self, values: Iterable[Tensor]) -> tuple[Tensor, ...]:
        """The outputs for some leaf values."""
        found: tuple[Tensor, ...] = self.module(*values)
        return found


def form(program: Program, outputs: Sequence[fx.Node], recipe: Recipe) -> Form:
    """Rewrite a normalised program; only what the outputs depend on is kept."""
    return _Rewriting(program, outputs, recipe).result()


@dataclass(frozen=True, slots=True)
class _Held:
    """A value that only moves and scales one root: nothing is emitted until something else reads it."""

    root: fx.Node
    scale: float = 1.0
    shift: float = 0.0


@dataclass(slots=True)
class _Rewriting:
    program: Program
    outputs: Sequence[fx.Node]
    recipe: Recipe
    static: dict[fx.Node, Any] = field(default_factory=dict)
    held: dict[fx.Node, _Held] = field(default_factory=dict)
    env: dict[fx.Node, fx.Node] = field(default_factory=dict)
    moved: dict[tuple[fx.Node, Leaf], fx.Node] = field(default_factory=dict)
    leaves: dict[tuple[Any, ...], Leaf] = field(default_factory=dict)
    slots: dict[Leaf, fx.Node] = field(default_factory=dict)
    readers: dict[Leaf, list[tuple[fx.Node, int]]] = field(default_factory=dict)
    constants: dict[str, Tensor] = field(default_factory=dict)
    graph: fx.Graph = field(default_factory=fx.Graph)
    only: dict[fx.Node, bool | None] = field(default_factory=dict)

    def result(self) -> Form:
        live = ancestors(self.outputs)
        self.static = static_values(self.program, live)
        self.only = weights_only(self.program, live) if self.recipe.effective else {}
        for node in self.program.graph.nodes:
            if node in live and node not in self.static:
                self.visit(node)
        self.graph.output(tuple(self.operand(node, node, 0) for node in self.outputs))
        module = fx.GraphModule({name: value.clone() for name, value in self.constants.items()}, self.graph)
        ordered = tuple(self.slots)
        readers = tuple(tuple(self.readers[leaf]) for leaf in ordered)
        return Form(self.program, ordered, module, readers, self.static, frozenset(self.held), self.recipe)

    def visit(self, node: fx.Node) -> None:
        if node in self.program.weights:
            self.held[node] = _Held(node)
            return
        held = self.chained(node)
        if held is None and self.only.get(node) and shape_of(node) is not None:
            held = _Held(node)
        if held is None:
            self.emit(node)
        else:
            self.held[node] = held

    def chained(self, node: fx.Node) -> _Held | None:
        """What a node holds if all it does is to move or scale something held."""
        dynamic = [item for item in node.all_input_nodes if item not in self.static]
        if len(dynamic) != 1 or dynamic[0] not in self.held or node.args[0:1] == ():
            return None
        held, name = self.held[dynamic[0]], name_of(node)
        if (name in MOVES or name == "embedding") and node.args[0] is dynamic[0]:
            return held
        affine = self.affine(name, node, dynamic[0]) if name in SCALINGS else None
        if affine is None or not affine[0]:
            return None
        return _Held(held.root, held.scale * affine[0], held.shift * affine[0] + affine[1])

    def affine(self, name: str, node: fx.Node, held: fx.Node) -> tuple[float, float] | None:
        """The factor and term of scalar arithmetic on a held value."""
        if name == "neg":
            return -1.0, 0.0
        others = [arg for arg in node.args if arg is not held]
        number = scalar(others[0], self.static) if len(others) == 1 and len(node.args) == 2 else None
        if number is None or node.kwargs.get("alpha", 1) != 1 or shape_of(node) != shape_of(held):
            return None
        return _scalar_affine(name, number, node.args[0] is held)

    def leaf(self, held: _Held, use: fx.Node) -> Leaf:
        key = (held.root, held.scale, held.shift, use if self.recipe.by_use else None)
        if key not in self.leaves:
            self.leaves[key] = made = self.new_leaf(held)
            slot = self.graph.placeholder(f"leaf{len(self.slots)}")
            if made.repeats:
                whole = list(shape_of(made.root) or ())
                slot = self.graph.call_function(torch.ops.aten.expand.default, (slot, whole))
            self.slots[made] = slot
            self.readers[made] = []
        return self.leaves[key]

    def new_leaf(self, held: _Held) -> Leaf:
        names, affine = self.program.weights, (held.scale, held.shift)
        if held.root in names:
            value = self.program.values[names[held.root]]
            return Leaf(held.root, *affine, tuple(value.shape), (names[held.root],), value.is_floating_point())
        inside = ancestors([held.root])
        weights = tuple(dict.fromkeys(names[item] for item in names if item in inside))
        whole = shape_of(held.root) or ()
        repeats = self.repeats(held.root, weights)
        shape = tuple(1 if axis in repeats else size for axis, size in enumerate(whole))
        return Leaf(held.root, *affine, shape, weights, True, repeats)

    def repeats(self, root: fx.Node, weights: tuple[str, ...]) -> tuple[int, ...]:
        """The axes along which a value repeats itself whatever the weights are, found on a generic draw."""
        chance = torch.Generator().manual_seed(0)
        own = self.program.values
        drawn = {
            name: torch.rand(own[name].shape, generator=chance, dtype=torch.float64) + 0.5
            if own[name].is_floating_point()
            else own[name]
            for name in weights
        }
        with torch.no_grad():
            value = weights_value(root, self.program, self.static, drawn)
        sizes = enumerate(value.shape)
        return tuple(axis for axis, size in sizes if size > 1 and bool((value == value.narrow(axis, 0, 1)).all()))

    def operand(self, node: fx.Node, use: fx.Node, place: int) -> Any:
        """The emitted node that has a value; a held one is moved into place for this reader."""
        if node in self.static:
            return self.constant(node)
        if node not in self.held:
            return self.env[node]
        leaf = self.leaf(self.held[node], use)
        self.readers[leaf].append((use, place))
        return self.move(node, leaf)

    def move(self, node: fx.Node, leaf: Leaf) -> fx.Node:
        if node is leaf.root:
            return self.slots[leaf]
        if (node, leaf) in self.moved:
            return self.moved[node, leaf]
        inner = next(item for item in node.all_input_nodes if item not in self.static)
        source = self.move(inner, leaf)
        if name_of(node) in SCALINGS:
            return source
        args, kwargs = fx.map_arg(
            (node.args, dict(node.kwargs)), lambda item: source if item is inner else self.constant(item)
        )
        self.moved[node, leaf] = made = self.graph.create_node("call_function", node.target, args, kwargs)
        return made

    def constant(self, node: fx.Node) -> Any:
        value = self.static[node]
        if not isinstance(value, Tensor):
            return value
        if node not in self.env:
            name = f"constant{len(self.constants)}"
            self.constants[name] = value
            self.env[node] = self.graph.get_attr(name)
        return self.env[node]

    def emit(self, node: fx.Node) -> None:
        call = surrogates.substitute(node) if self.recipe.smooth else None
        target, args, kwargs = call if call is not None else (node.target, node.args, dict(node.kwargs))
        places = {item: place for place, item in reversed(list(enumerate(node.all_input_nodes)))}
        args, kwargs = fx.map_arg((args, kwargs), lambda item: self.operand(item, node, places[item]))
        self.env[node] = self.graph.create_node("call_function", target, args, kwargs)


def _scalar_affine(name: str, number: float, first: bool) -> tuple[float, float] | None:
    match name:
        case "mul":
            return number, 0.0
        case "div":
            return (1 / number, 0.0) if first and number else None
        case "add":
            return 1.0, number
        case "sub":
            return (1.0, -number) if first else (-1.0, number)
        case "rsub":
            return (-1.0, number) if first else None
        case _:
            return None


def static_values(program: Program, live: set[fx.Node]) -> dict[fx.Node, Any]:
    """Values of all nodes that depend on no weight; random ones are drawn from a fixed seed."""
    values: dict[fx.Node, Any] = {}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        for node in program.graph.nodes:
            if node not in live or node in program.weights:
                continue
            if node in program.fixed:
                values[node] = program.fixed[node]
            elif node.op == "call_function" and all(item in values for item in node.all_input_nodes):
                if name_of(node) in RANDOM:
                    torch.manual_seed(0)
                args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
                values[node] = node.target(*args, **kwargs)
    return values


def scalar(value: Any, static: Mapping[fx.Node, Any]) -> float | None:
    """A number, or the one number in a constant tensor."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    held = static.get(value) if isinstance(value, fx.Node) else None
    if isinstance(held, Tensor) and held.numel() == 1 and not held.is_complex():
        return float(held)
    return None


def evaluate(leaf: Leaf, form_: Form, values: Mapping[str, Tensor]) -> Tensor:
    """A leaf's value on given weights."""
    value = weights_value(leaf.root, form_.program, form_.static, values)
    for axis in leaf.repeats:
        value = value.narrow(axis, 0, 1)
    return value * leaf.scale + leaf.shift if leaf.floating else value


def weights_value(
    node: fx.Node, program: Program, static: Mapping[fx.Node, Any], values: Mapping[str, Tensor]
) -> Tensor:
    """The value of a node that weights alone determine, on given weights."""
    known: dict[fx.Node, Any] = {}

    def value(item: fx.Node) -> Any:
        if item in program.weights:
            return values[program.weights[item]]
        if item in static:
            return static[item]
        if item not in known:
            args, kwargs = fx.map_arg((item.args, dict(item.kwargs)), value)
            run: Callable[..., Any] = item.target  # type: ignore[assignment]
            known[item] = run(*args, **kwargs)
        return known[item]

    found: Tensor = value(node)
    return found
