"""The scale of attention scores becomes part of the weights that make the queries.

One model divides its scores by sqrt(d), another scales its queries, a third has the factor in its query weights, and
some scale queries and keys by d ** -0.25. Here every attention gets scores of scale 1: all numbers that only scale its
queries, its keys or their products are taken out, and their product is multiplied onto whatever weights make the
queries. Where one contraction makes keys and values as well, only the channels that reach the queries are scaled. Which
do is seen from gradients: between contraction and scores, everything is linear.

An attention whose queries no weights scale (a norm without weights, cosine attention) stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from automatch.exact.fold import weighted
from automatch.exact.form import scalar, static_values, weights_value
from automatch.exact.graph_copy import BLANK, Draft, along, draft, drawn, origin_axis, shape_operands, touched
from automatch.exact.normalise import ancestors, shape_of
from automatch.exact.ops import MOVES
from automatch.trace.program import Program, name_of

aten = torch.ops.aten
_SOFTMAXES = frozenset("softmax _softmax _safe_softmax".split())
_PRODUCTS = frozenset("matmul bmm baddbmm einsum".split())
_AFTER_SCORES = frozenset("add sub mul div masked_fill where tanh maximum clamp clamp_min".split())
_LINEAR = MOVES | frozenset("neg view_as_complex view_as_real real imag conj".split())
_JOINS = frozenset("cat stack add sub complex slice_scatter select_scatter".split())
_PERIODIC = frozenset("sin cos polar".split())


@dataclass(frozen=True, slots=True, eq=False)
class _Path:
    """What lies between an operand of an attention and what it is made of, all of it linear.

    Attributes:
        nodes: The linear operators.
        ends: What they are linear in, where weights can scale it; None where something else is among it.
        scalars: Operators that all paths pass and that do nothing but scale, with their factors.
    """

    nodes: frozenset[fx.Node]
    ends: frozenset[fx.Node] | None
    scalars: dict[fx.Node, float]


@dataclass(frozen=True, slots=True, eq=False)
class _Attention:
    """One place where queries meet keys.

    Attributes:
        node: The product, or the fused attention.
        query: The query operand.
        key: The key operand.
        own: The factor that the operator itself applies.
        after: Scalings of the scores alone.
        queries: What makes the queries.
        keys: What makes the keys.
    """

    node: fx.Node
    query: fx.Node
    key: fx.Node
    own: float
    after: dict[fx.Node, float]
    queries: _Path
    keys: _Path


@dataclass(frozen=True, slots=True)
class _Edge:
    """A weight's value where it enters the queries, with the axes of `output` that its own come from."""

    user: fx.Node
    operand: fx.Node
    output: fx.Node
    axes: tuple[tuple[int, int], ...]


def scores_scaled(program: Program) -> Program:
    """The same function with attention scores of scale 1, the scale being in the weights that make the queries."""
    work = _Work(draft(program))
    work.static = static_values(work.copy.program, set(work.copy.graph.nodes))
    for group in _groups(list(work.attentions())):
        if not work.rescale(group) and len(group) > 1:
            for one in group:
                work.rescale([replace(one, queries=work.path(one.query), keys=work.path(one.key))])
    return work.copy.finished()


def _groups(attentions: list[_Attention]) -> list[list[_Attention]]:
    """Attentions whose queries come from the same places together."""
    groups: list[list[_Attention]] = []
    for attention in attentions:
        ends = attention.queries.ends or frozenset()
        shared = [group for group in groups if any(ends & (other.queries.ends or frozenset()) for other in group)]
        groups = [group for group in groups if not any(group is other for other in shared)]
        groups.append([*(item for group in shared for item in group), attention])
    return groups


@dataclass(slots=True)
class _Work:
    copy: Draft
    static: dict[fx.Node, Any] = field(default_factory=dict)

    def attentions(self) -> Iterator[_Attention]:
        """Every attention, in execution order."""
        seen: set[fx.Node] = set()
        for node in self.copy.graph.nodes:
            if name_of(node) == "scaled_dot_product_attention":
                query, key = node.args[:2]
                scale = node.kwargs.get("scale")
                own: Any = (shape_of(query) or (1,))[-1] ** -0.5 if scale is None else scale
                yield from self.attention(node, query, key, own, {})
            elif name_of(node) in _SOFTMAXES:
                yield from self.spelled_out(node, seen)

    def attention(
        self, node: fx.Node, query: Any, key: Any, own: Any, after: dict[fx.Node, float]
    ) -> Iterator[_Attention]:
        if isinstance(own, (int, float)):
            yield _Attention(node, query, key, float(own), after, self.path(query), self.path(key))

    def spelled_out(self, softmax: fx.Node, seen: set[fx.Node]) -> Iterator[_Attention]:
        """The products of data under a softmax, those left out that were seen under another."""
        onward: dict[fx.Node, fx.Node] = {}
        waiting = [softmax]
        while waiting:
            node = waiting.pop()
            for item in node.all_input_nodes if node is not softmax else node.all_input_nodes[:1]:
                name = name_of(item)
                if item in onward or item in self.static or self.copy.only.get(item) is not None:
                    continue
                onward[item] = node
                if name in MOVES or name in _AFTER_SCORES:
                    waiting.append(item)
                elif name in _PRODUCTS and item not in seen:
                    seen.add(item)
                    yield from self.product(item, softmax, onward)

    def product(self, node: fx.Node, softmax: fx.Node, onward: dict[fx.Node, fx.Node]) -> Iterator[_Attention]:
        """The attention that a product is part of, if one of its operands is query and the other key."""
        operands: Any = node.args[1] if name_of(node) == "einsum" else node.args[-2:]
        axis: Any = softmax.args[1] if len(softmax.args) > 1 else softmax.kwargs.get("dim")
        parted = origin_axis(node, softmax, onward, axis)
        of_key = [] if parted is None else _have_axis(node, parted)
        if len(operands) != 2 or operands[0] is operands[1] or of_key.count(True) != 1:
            return
        key, query = operands[of_key.index(True)], operands[of_key.index(False)]
        if self.copy.only.get(key) is None:
            own = node.kwargs.get("alpha", 1.0)
            yield from self.attention(node, query, key, own, self.scalings_after(node))

    def scalings_after(self, node: fx.Node) -> dict[fx.Node, float]:
        """The operators after a product that do nothing but scale it."""
        found: dict[fx.Node, float] = {}
        while len(node.users) == 1 and name_of(node) != "baddbmm":
            user = next(iter(node.users))
            factor = self.factor(user, node)
            if factor is not None:
                found[user] = factor
            elif name_of(user) not in MOVES or user.args[0] is not node:
                break
            node = user
        return found

    def factor(self, node: fx.Node, operand: fx.Node) -> float | None:
        """The number by which an operator multiplies an operand, if that is all that it does."""
        name, args = name_of(node), node.args
        if name not in ("mul", "div") or len(args) != 2 or node.kwargs or shape_of(node) != shape_of(operand):
            return None
        other = args[1] if args[0] is operand else args[0]
        number = scalar(other, self.static)
        if not number or (name == "div" and args[0] is not operand):
            return None
        return number if name == "mul" else 1 / number

    def path(self, operand: fx.Node) -> _Path:
        """Walk back from an operand, latest operators first, through all that is linear."""
        order = {node: place for place, node in enumerate(self.copy.graph.nodes)}
        nodes: set[fx.Node] = set()
        ends: set[fx.Node] = set()
        scalars: dict[fx.Node, float] = {}
        scalable, pending = True, {operand}
        while pending:
            node = max(pending, key=order.__getitem__)
            alone = len(pending) == 1
            pending.remove(node)
            before = self.linear_in(node)
            if before is None:
                ends.add(node)
                scalable &= bool(self.edges(node, frozenset()))
                continue
            nodes.add(node)
            factor = self.factor(node, before[0]) if len(before) == 1 else None
            if alone and factor is not None:
                scalars[node] = factor
            pending.update(before)
        return _Path(frozenset(nodes), frozenset(ends) if scalable else None, scalars)

    def linear_in(self, node: fx.Node) -> list[fx.Node] | None:
        """The operands in which an operator is linear, without a term of its own; None where it is not."""
        name = name_of(node)
        if self.copy.only.get(node) is True or node in self.static or weighted(node, self.copy.only):
            return None
        if name in _JOINS:
            moving = [item for item in node.all_input_nodes if not self.is_zero(item)]
            numbers = name in ("add", "sub") and any(isinstance(arg, (int, float)) for arg in node.args)
            return None if numbers or any(item in self.static for item in moving) else moving
        shapes = shape_operands(node)
        moving = [item for item in node.all_input_nodes if not self.is_given(item) and item not in shapes]
        one = len(moving) == 1
        if name == "copied":
            return moving if one else None
        if name in _LINEAR:
            return moving if one and node.args[0] is moving[0] else None
        if name in ("constant_pad_nd", "pad"):
            fill = [arg for arg in node.args[2:] if arg not in (0, 0.0, None, "constant")]
            return moving if one and not fill and not node.kwargs else None
        if name == "mul" or (name == "div" and node.args[0] in moving):
            return moving if one else None
        return moving if one and name in ("matmul", "mm", "bmm", "einsum") and not node.kwargs else None

    def is_given(self, node: fx.Node) -> bool:
        """Whether a value is constant, or a rotary table that a stored frequency makes."""
        if node in self.static:
            return True
        return self.copy.only.get(node) is True and any(name_of(item) in _PERIODIC for item in ancestors([node]))

    def is_zero(self, node: fx.Node) -> bool:
        """Whether a value is zero, or undefined until something is written to it."""
        value = self.static.get(node)
        return name_of(node) in BLANK or (isinstance(value, Tensor) and not value.any())

    def edges(self, end: fx.Node, users: frozenset[fx.Node]) -> list[_Edge]:
        """Where weights enter an end of a path; none where they do not, so that it cannot be scaled."""
        only, name = self.copy.only, name_of(end)
        if only.get(end) is True:
            rank = len(shape_of(end) or ())
            own = tuple((place - rank, place) for place in range(rank))
            inside = [user for user in end.users if user in users]
            return [_Edge(user, end, end, own) for user in inside] or [_Edge(end, end, end, own)]
        found = weighted(end, only)
        if found is not None:
            bias = [] if found.bias is None else [_Edge(end, found.bias, end, found.bias_axes)]
            return [_Edge(end, found.weight, end, found.axes), *bias]
        stored = [item for item in end.all_input_nodes if only.get(item) is True]
        norm = name in ("layer_norm", "rms_norm") and end.args[2:3] != (None,)
        if (name != "mul" and not norm) or not stored or stored == end.all_input_nodes:
            return []
        if norm and (end.all_input_nodes[0] in stored or len(stored) + 1 != len(end.all_input_nodes)):
            return []
        return [_Edge(end, item, end, _broadcast(item)) for item in stored]

    def rescale(self, group: Sequence[_Attention]) -> bool:
        """Move the scale of some attentions that share their queries; False where it cannot be moved."""
        queries, keys = [one.queries for one in group], [one.keys for one in group]
        ends = frozenset().union(*(path.ends or () for path in queries))
        if any(path.ends is None for path in queries):
            return False
        removed = self.removable(group, queries, "query") | self.removable(group, keys, "key")
        totals = [_total(one, removed) for one in group]
        if max(totals) - min(totals) > 1e-12 * abs(totals[0]):
            return False
        nodes = frozenset().union(*(path.nodes for path in queries))
        users = nodes | {one.node for one in group}
        edges = [edge for end in ends for edge in self.edges(end, users)]
        masks = self.reached(group, nodes, ends)
        factors = [_factors(edge, *masks[edge.output], totals[0]) for edge in edges]
        once = all(_is_read_at(edge.user, edge.operand, {(edge.user, edge.operand)}) for edge in edges)
        if not once or any(factor is None for factor in factors):
            return False
        self.rewrite(group, removed, [(edge, factor) for edge, factor in zip(edges, factors, strict=True)])
        return True

    def removable(self, group: Sequence[_Attention], paths: Sequence[_Path], side: str) -> set[fx.Node]:
        """Scalars on the paths to one operand of these attentions that act on nothing else."""
        nodes = frozenset().union(*(path.nodes for path in paths))
        slots = {(one.node, getattr(one, side)) for one in group}
        found = set()
        for node in frozenset().union(*(path.scalars for path in paths)):
            inside = {node} | {item for item in nodes if node in ancestors([item])}
            closed = all(user in nodes or _is_read_at(user, item, slots) for item in inside for user in item.users)
            if closed and all(node in path.scalars for path in paths if node in path.nodes):
                found.add(node)
        return found

    def reached(
        self, group: Sequence[_Attention], nodes: frozenset[fx.Node], ends: frozenset[fx.Node]
    ) -> dict[fx.Node, tuple[Tensor, Tensor]]:
        """By end, which of its elements reach the queries, and which reach anything else."""
        chance = torch.Generator().manual_seed(0)
        variables = {end: drawn(shape_of(end) or (), chance) for end in ends}
        with torch.enable_grad():
            env = self.carried(nodes, dict(variables))
        slots = {(one.node, one.query) for one in group}
        others = []
        for node, value in env.items():
            stored = self.copy.only.get(node) is True
            if not stored and not all(user in env or _is_read_at(user, node, slots) for user in node.users):
                others.append(value)
        reaching = touched([env[one.query] for one in group], list(variables.values()), chance)
        leaving = touched(others, list(variables.values()), chance)
        return dict(zip(variables, zip(reaching, leaving, strict=True), strict=True))

    def carried(self, nodes: frozenset[fx.Node], env: dict[fx.Node, Any]) -> dict[fx.Node, Any]:
        """The values of the path's operators, and of all that only moves them on."""
        for node in self.copy.graph.nodes:
            given = all(item is node.args[0] or item in self.static for item in node.all_input_nodes)
            moved = given and name_of(node) in MOVES and node.args[0] in env
            if node not in env and (node in nodes or moved):
                args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), lambda item: self.value(item, env))
                env[node] = node.target(*args, **kwargs)
        return env

    def value(self, node: fx.Node, env: dict[fx.Node, Any]) -> Any:
        """An operand's value; one that is neither carried nor given counts for its shape alone."""
        program = self.copy.program
        if node in env or node in self.static:
            return env[node] if node in env else self.static[node]
        if self.copy.only.get(node) is True:
            return weights_value(node, program, self.static, program.values)
        return torch.zeros(shape_of(node) or (), dtype=torch.float64)

    def rewrite(self, group: Sequence[_Attention], removed: set[fx.Node], edges: Sequence[tuple[_Edge, Any]]) -> None:
        for edge, factor in edges:
            if isinstance(factor, float) and factor == 1:
                continue
            by = factor
            if isinstance(factor, Tensor):
                by = self.copy.constant(factor)
                self.static[by] = factor
            scaled = self.copy.call(edge.user, aten.mul.Tensor, edge.operand, by)
            edge.user.replace_input_with(edge.operand, scaled)
        for node in removed | {node for one in group for node in one.after}:
            kept = next(item for item in node.all_input_nodes if item not in self.static)
            node.replace_all_uses_with(kept)
            self.copy.graph.erase_node(node)
        for one in group:
            own = {"baddbmm": "alpha", "scaled_dot_product_attention": "scale"}.get(name_of(one.node))
            if own is not None:
                one.node.kwargs = {**one.node.kwargs, own: 1.0}


def _total(one: _Attention, removed: set[fx.Node]) -> float:
    """The whole scale of an attention's scores, as far as it can be moved."""
    found = {**one.queries.scalars, **one.keys.scalars}
    return one.own * prod(one.after.values()) * prod(found[node] for node in found if node in removed)


def _have_axis(product: fx.Node, axis: int) -> list[bool]:
    """Of which operands of a product an axis of its result comes, counted from the end."""
    if name_of(product) != "einsum":
        return [axis == -2, axis == -1]
    left, _, result = str(product.args[0]).replace(" ", "").partition("->")
    return [] if len(result) < -axis else [result[axis] in term for term in left.split(",")]


def _is_read_at(user: fx.Node, operand: fx.Node, slots: set[tuple[fx.Node, fx.Node]]) -> bool:
    """Whether an operator reads a value at one of these places only, or only its shape."""
    if _reads_shape(user, operand):
        return True
    once = sum(item is operand for item in pytree.tree_leaves((user.args, user.kwargs))) == 1
    return once and (user, operand) in slots


def _reads_shape(user: fx.Node, operand: fx.Node) -> bool:
    """Whether nothing but the shape of a value matters to an operator, or to all that read what it moves."""
    if operand in shape_operands(user):
        return True
    return name_of(user) in MOVES and bool(user.users) and all(_reads_shape(item, user) for item in user.users)


def _factors(edge: _Edge, reaching: Tensor, leaving: Tensor, total: float) -> Tensor | float | None:
    """What to multiply a weight's value by; None where some of it makes more than the queries."""
    shape = shape_of(edge.operand) or ()
    inside, outside = (along(mask, edge.axes, shape) for mask in (reaching, leaving))
    if bool((inside & outside).any()):
        return None
    if total == 1 or not bool(outside.any()):
        return total
    return torch.where(inside, torch.tensor(total, dtype=torch.float64), 1.0)


def _broadcast(operand: fx.Node) -> tuple[tuple[int, int], ...]:
    """The axes of an output that an operand lies along by broadcasting."""
    shape = shape_of(operand) or ()
    return tuple((place - len(shape), place) for place, size in enumerate(shape) if size > 1)
