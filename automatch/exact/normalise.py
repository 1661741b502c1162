"""One spelling for what two programs may spell differently, before their leaves are sought.

1. Batch norm of an evaluated model becomes the arithmetic that it is, so that its statistics are ordinary operands
   (torch has no gradient for them).
2. A lookup forgets its padding row, which torch gives no gradient.
3. A contraction's bias is added by an operator of its own.
4. A product with a one-hot matrix becomes the lookup that it is.
5. In a chain of additions, terms that are made of weights alone are added first: `(word + type[0]) + position` reads
   `word + (type[0] + position)`, so that their sum can be one leaf.
6. A sum with a concatenation, `cat(a, b) + p`, becomes the concatenation of sums, `cat(a + p0, b + p1)`, where a part
   and `p` are both made of weights alone (a class token under position embeddings).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from automatch.exact.ops import CONTRACTIONS, RANDOM
from automatch.trace.program import Program, name_of

aten = torch.ops.aten


def normalised(program: Program, gathered: bool = False) -> Program:
    """The same program in one spelling; the given one is not changed.

    Args:
        program: The program.
        gathered: Whether sums are regrouped as well (the last two points), so that what weights add up to is a value.
    """
    plain = _lookups(_plain_operators(program))
    return _gathered_sums(plain) if gathered else plain


def shape_of(node: Any) -> tuple[int, ...] | None:
    """A recorded value's shape."""
    value = node.meta.get("val") if isinstance(node, fx.Node) else None
    return tuple(int(size) for size in value.shape) if isinstance(value, Tensor) else None


def ancestors(outputs: Any) -> set[fx.Node]:
    """Everything that some nodes depend on, themselves included."""
    found: set[fx.Node] = set()
    waiting = list(outputs)
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def copied(into: Tensor, value: Tensor, *_: Any) -> Tensor:
    """`copy`, for which torch has no gradient."""
    return value.to(into.dtype).expand_as(into) * 1


@dataclass(slots=True)
class _Copy:
    """A graph under construction, with what stands for every node of the original."""

    graph: fx.Graph
    env: dict[fx.Node, Any]

    def call(self, target: Any, args: tuple[Any, ...], shape: tuple[int, ...] | None, **kwargs: Any) -> fx.Node:
        node = self.graph.create_node("call_function", target, args, kwargs)
        if shape is not None:
            node.meta["val"] = torch.empty(shape, device="meta", dtype=torch.float64)
        return node

    def same(self, node: fx.Node) -> fx.Node:
        self.env[node] = made = self.graph.node_copy(node, self.env.__getitem__)
        return made


def _plain_operators(program: Program) -> Program:
    copy = _Copy(fx.Graph(), {})
    for node in program.graph.nodes:
        name = name_of(node)
        if name == "batch_norm":
            copy.env[node] = _batch_norm(copy, node)
        elif name == "_native_batch_norm_legit_no_training":
            copy.env[node] = (_batch_norm(copy, node),)
        elif name == "getitem" and isinstance(copy.env[node.args[0]], tuple):
            copy.env[node] = copy.env[node.args[0]][node.args[1]]
        elif name in ("linear", "addmm") or name.startswith("conv"):
            copy.env[node] = _without_bias(copy, node)
        elif name == "embedding":
            args = tuple(copy.env[arg] for arg in node.args[:2])
            copy.env[node] = copy.call(aten.embedding.default, args, shape_of(node))
        elif name == "copy":
            args = tuple(copy.env[arg] for arg in node.args[:2])
            copy.env[node] = copy.call(copied, args, shape_of(node))
        elif name in ("view", "_unsafe_view"):
            copy.env[node] = copy.call(aten.reshape.default, _mapped(copy, node.args), shape_of(node))
        else:
            copy.same(node)
    return _rebased(program, copy)


def _mapped(copy: _Copy, args: Any) -> Any:
    return fx.map_arg(args, copy.env.__getitem__)


def _batch_norm(copy: _Copy, node: fx.Node) -> fx.Node:
    x, weight, bias, mean, var, *rest = _mapped(copy, node.args)
    eps = next(item for item in reversed(rest) if isinstance(item, float))
    value = node.meta["val"]
    shape = tuple(value[0].shape) if isinstance(value, (tuple, list)) else tuple(value.shape)
    axes = (1, shape[1], *[1] * (len(shape) - 2))

    def column(item: fx.Node) -> fx.Node:
        return copy.call(aten.reshape.default, (item, axes), axes)

    kept = (shape[1],)
    inverse = copy.call(aten.rsqrt.default, (copy.call(aten.add.Tensor, (var, eps), kept),), kept)
    y = copy.call(aten.sub.Tensor, (x, column(mean)), shape)
    y = copy.call(aten.mul.Tensor, (y, column(inverse)), shape)
    y = y if weight is None else copy.call(aten.mul.Tensor, (y, column(weight)), shape)
    return y if bias is None else copy.call(aten.add.Tensor, (y, column(bias)), shape)


def _without_bias(copy: _Copy, node: fx.Node) -> fx.Node:
    name, args = name_of(node), _mapped(copy, node.args)
    shape = shape_of(node) or ()
    if name == "addmm":
        if node.kwargs:
            return copy.same(node)
        product = copy.call(aten.mm.default, args[1:], shape)
        return copy.call(aten.add.Tensor, (product, args[0]), shape)
    bias = args[2] if len(args) > 2 else None
    if bias is None:
        return copy.same(node)
    target: Any = node.target
    rest = [None, *args[3:]] if len(args) > 3 else []
    bare = copy.call(target, (*args[:2], *rest), shape, **_mapped(copy, node.kwargs))
    if name != "linear":
        kernel = shape_of(node.args[1]) or ()
        axes = (shape[1 - len(kernel)], *[1] * (len(kernel) - 2))  # inputs may come without a batch axis
        bias = copy.call(aten.reshape.default, (bias, axes), axes)
    return copy.call(aten.add.Tensor, (bare, bias), shape)


def _rebased(program: Program, copy: _Copy) -> Program:
    env = copy.env
    return replace(
        program,
        graph=copy.graph,
        weights={env[node]: name for node, name in program.weights.items()},
        fixed={env[node]: value for node, value in program.fixed.items()},
        inputs=frozenset(env[node] for node in program.inputs),
        outputs=tuple(env[node] for node in program.outputs),
    )


def _lookups(program: Program) -> Program:
    free = _without_weights(program)
    for node in list(program.graph.nodes):
        if name_of(node) not in ("matmul", "mm") or node.args[0] not in free or node.args[1] in free:
            continue
        rows: Any = free[node.args[0]]
        table: Any = node.args[1]
        if len(shape_of(table) or ()) == 2 and _is_one_hot(rows):
            with program.graph.inserting_before(node):
                ids = program.graph.call_function(aten.argmax.default, (node.args[0], -1))
                looked_up = program.graph.call_function(aten.embedding.default, (table, ids))
            ids.meta["val"] = rows.argmax(-1).to("meta")
            looked_up.meta["val"] = node.meta["val"]
            node.replace_all_uses_with(looked_up)
            outputs = tuple(looked_up if output is node else output for output in program.outputs)
            program = replace(program, outputs=outputs)
    return program


def _is_one_hot(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.dim() < 1 or value.shape[-1] < 2:
        return False
    return bool(((value == 0) | (value == 1)).all()) and bool((value.sum(-1) == 1).all())


def _without_weights(program: Program) -> dict[Any, Any]:
    """The values that feed a product from the left and depend on no weight."""
    wanted = [node.args[0] for node in program.graph.nodes if name_of(node) in ("matmul", "mm")]
    values: dict[Any, Any] = {}
    needed = ancestors(item for item in wanted if isinstance(item, fx.Node))
    with torch.no_grad():
        for node in program.graph.nodes:
            if node in program.fixed:
                values[node] = program.fixed[node]
            elif node in needed and node.op == "call_function" and all(item in values for item in node.all_input_nodes):
                if name_of(node) in RANDOM:
                    continue
                args, kwargs = fx.map_arg((node.args, dict(node.kwargs)), values.__getitem__)
                values[node] = node.target(*args, **kwargs)
    return values


def _gathered_sums(program: Program) -> Program:
    graph, live = program.graph, ancestors(program.outputs)
    returned = graph.output(program.outputs)
    only = weights_only(program, live)
    mixed = {node for node in live if only.get(node) is None}
    done: set[fx.Node] = set()
    for node in reversed(list(graph.nodes)):
        if node in live and node in mixed and node not in done and _is_sum(node):
            _regroup(program, node, only, live, done)
    only = weights_only(program, ancestors([returned]))
    for node in list(graph.nodes):
        if _is_sum(node) and node in only and only[node] is None:
            _push_into_cat(program, node, only)
    outputs: Any = returned.args[0]
    graph.erase_node(returned)
    return replace(program, outputs=tuple(outputs))


def _is_sum(node: Any) -> bool:
    plain = isinstance(node, fx.Node) and name_of(node) == "add" and len(node.args) == 2 and not node.kwargs
    return plain and all(isinstance(arg, fx.Node) and shape_of(arg) is not None for arg in node.args)


def _regroup(
    program: Program, top: fx.Node, only: dict[fx.Node, bool | None], live: set[fx.Node], done: set[fx.Node]
) -> None:
    terms: list[fx.Node] = []

    def flatten(node: fx.Node) -> None:
        inner = node is top or sum(user in live for user in node.users) == 1
        if _is_sum(node) and only.get(node) is None and inner:
            done.add(node)
            for arg in node.args:
                flatten(arg)  # type: ignore[arg-type]  # `_is_sum` has looked
        else:
            terms.append(node)

    flatten(top)
    weights = [term for term in terms if only.get(term)]
    others = [term for term in terms if not only.get(term)]
    if len(weights) < 2 or not others:
        return
    with program.graph.inserting_before(top):
        total = _added(program.graph, [_added(program.graph, others), _added(program.graph, weights)])
    top.replace_all_uses_with(total)


def _added(graph: fx.Graph, terms: list[fx.Node]) -> fx.Node:
    total = terms[0]
    for term in terms[1:]:
        shape = torch.broadcast_shapes(shape_of(total) or (), shape_of(term) or ())  # type: ignore[no-untyped-call]
        total = graph.call_function(aten.add.Tensor, (total, term))
        total.meta["val"] = torch.empty(shape, device="meta", dtype=torch.float64)
    return total


def _push_into_cat(program: Program, node: fx.Node, only: dict[fx.Node, bool | None]) -> None:
    for joined, term in (node.args, node.args[::-1]):
        assert isinstance(joined, fx.Node)
        assert isinstance(term, fx.Node)
        if name_of(joined) == "cat" and only.get(term) and len(joined.users) == 1:
            parts: Any = joined.args[0]
            axis: Any = joined.args[1] if len(joined.args) > 1 else 0
            shape, given = shape_of(joined) or (), shape_of(term) or ()
            axis %= len(shape)
            if len(given) == len(shape) and given[axis] == shape[axis] and any(only.get(part) for part in parts):
                node.replace_all_uses_with(_cat_of_sums(program.graph, node, parts, term, axis))
                return


def _cat_of_sums(graph: fx.Graph, node: fx.Node, parts: Any, term: fx.Node, axis: int) -> fx.Node:
    start, sums, given = 0, [], shape_of(term) or ()
    with graph.inserting_before(node):
        for part in parts:
            length = (shape_of(part) or ())[axis]
            piece = graph.call_function(aten.slice.Tensor, (term, axis, start, start + length))
            shape = (*given[:axis], length, *given[axis + 1 :])
            piece.meta["val"] = torch.empty(shape, device="meta", dtype=torch.float64)
            sums.append(_added(graph, [part, piece]))
            start += length
        made = graph.call_function(aten.cat.default, (sums, axis))
    made.meta["val"] = node.meta["val"]
    return made


def weights_only(program: Program, live: set[fx.Node]) -> dict[fx.Node, bool | None]:
    """What live nodes depend on: True for weights (and constants) alone, False for constants alone, None otherwise.

    A value that a contraction made counts as "otherwise": it is computed, not stored.
    """
    kinds: dict[fx.Node, bool | None] = {}
    for node in program.graph.nodes:
        if node not in live:
            continue
        if node in program.weights:
            kinds[node] = True
        elif node in program.fixed:
            kinds[node] = None if node in program.inputs else False
        else:
            operands = [kinds.get(item) for item in node.all_input_nodes]
            computed = None in operands or name_of(node) in CONTRACTIONS
            kinds[node] = None if computed else any(operands)
    return kinds
