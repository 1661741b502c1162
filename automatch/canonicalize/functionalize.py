"""In-place operators become out-of-place ones, and whoever reads the changed value later reads the new one.

Needs: a graph as recorded. Gives: a graph in which every value is written once.

1. `add_(x, y)` becomes `add(x, y)`; later readers of `x` read the sum. `copy_` and `fill_` become what they write.
2. Where the changed value is a view, its base changes too: `scatter(base, new)`, of the base's shape, takes the base's
   place. Where the view covers the whole base in the same order (`view`, `unsqueeze`), it is only viewed back.
3. Other views of that base that are read afterwards are taken anew from its new value.

Views are known by name. `reshape` and `flatten` count as views, `contiguous` as a copy: what they nearly always are
where something is written through them afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from automatch.core.graph import Arg, Graph, Node, Ref, refs

# Views that hold all elements of what they view, in the same order.
_WHOLE_VIEWS = frozenset(
    {
        "alias",
        "detach",
        "flatten",
        "ravel",
        "reshape",
        "squeeze",
        "unflatten",
        "unsqueeze",
        "view",
        "view_as",
        # Outside training these return what they are given.
        "alpha_dropout",
        "dropout",
        "feature_dropout",
    }
)
_VIEWS = _WHOLE_VIEWS | {
    "adjoint",
    "as_strided",
    "broadcast_to",
    "chunk",
    "diagonal",
    "expand",
    "expand_as",
    "imag",
    "mT",
    "matrix_H",
    "moveaxis",
    "movedim",
    "narrow",
    "numpy_T",
    "permute",
    "real",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "swapaxes",
    "swapdims",
    "t",
    "tensor_split",
    "transpose",
    "unbind",
    "unfold",
    "view_as_complex",
    "view_as_real",
}
_PARTED = frozenset({"chunk", "split", "split_with_sizes", "tensor_split", "unbind"})
_UNCHANGED = frozenset({"detach_", "requires_grad_", "dropout_", "feature_dropout_", "alpha_dropout_"})
_RESHAPED = frozenset({"squeeze_", "unsqueeze_", "t_", "transpose_", "swapaxes_", "swapdims_"})
_AUGMENTED = {
    "iadd": "add",
    "isub": "sub",
    "imul": "mul",
    "itruediv": "div",
    "ifloordiv": "floor_divide",
    "imod": "remainder",
    "ipow": "pow",
    "imatmul": "matmul",
    "iand": "__and__",
    "ior": "__or__",
    "ixor": "__xor__",
}


def functionalize(graph: Graph) -> Graph:
    """Rewrite every in-place operator; a graph without one comes back equal.

    Example:
        >>> x = Node(0, "input", shape=(2,), dtype="float32", target="x")
        >>> doubled = Node(1, "mul_", (Ref(0), 2), shape=(2,), dtype="float32")
        >>> total = Node(2, "sum", (Ref(0),), shape=(), dtype="float32")
        >>> functionalize(Graph((), (x, doubled, total), (2,))).nodes[1:]  # doctest: +NORMALIZE_WHITESPACE
        (Node(index=1, op='mul', args=(Ref(node=0), 2), kwargs=(), shape=(2,), dtype='float32', ...),
         Node(index=2, op='sum', args=(Ref(node=1),), kwargs=(), shape=(), dtype='float32', ...))
    """
    if not any(_is_in_place(node.op) for node in graph.nodes):
        return graph
    rewriter = _Rewriter(graph.nodes)
    for node in graph.nodes:
        rewriter.take(node)
    outputs = tuple(rewriter.read(index) for index in graph.outputs)
    nodes, outputs = _without_unread(rewriter.nodes, rewriter.made, outputs)
    return replace(graph, nodes=nodes, outputs=outputs)


def _plain(op: str) -> str:
    """An in-place operator's name without its marks: `"add_"`, `"__iadd__"` and `"iadd"` are `"add"`."""
    bare = op.strip("_") if op.startswith("__i") else op
    return _AUGMENTED.get(bare, op.removesuffix("_"))


def _is_in_place(op: str) -> bool:
    bare = op.strip("_")
    if bare == "setitem" or (bare in _AUGMENTED and op != bare + "_"):
        return True
    return op.endswith("_") and not op.endswith("__")


@dataclass(slots=True)
class _Rewriter:
    """The new nodes so far, and for every old one which new node holds its value, and since which write to its base.

    Attributes:
        old: The graph's nodes.
        nodes: The new ones.
        made: Those that stand for no old node; they may go if nobody reads them.
        value: By old index, the new index of its value.
        stamp: By old index, the number of writes to its base that this value has seen.
        writes: By old index of a base, the writes to it so far.
        base: By old index, the old index of the value whose memory it shares; itself if none.
        viewed: By old index of a view, the old index of what it views.
        same: By old index of an in-place result, the old index of the value that it returned.
    """

    old: tuple[Node, ...]
    nodes: list[Node] = field(default_factory=list)
    made: set[int] = field(default_factory=set)
    value: dict[int, int] = field(default_factory=dict)
    stamp: dict[int, int] = field(default_factory=dict)
    writes: dict[int, int] = field(default_factory=dict)
    base: dict[int, int] = field(default_factory=dict)
    viewed: dict[int, int] = field(default_factory=dict)
    same: dict[int, int] = field(default_factory=dict)

    def take(self, node: Node) -> None:
        """Rewrite one old node."""
        if _is_in_place(node.op) and node.args and isinstance(node.args[0], Ref):
            self.write(node, self.itself(node.args[0].node))
            return
        source = self.source_of_view(node)
        self.base[node.index] = node.index if source is None else self.base[source]
        if source is not None:
            self.viewed[node.index] = source
        self.set(node.index, self.emit(self.reread(node)))

    def source_of_view(self, node: Node) -> int | None:
        """What a node views; None if its value has memory of its own."""
        if not node.args or not isinstance(node.args[0], Ref):
            return None
        source = self.itself(node.args[0].node)
        if node.op in _VIEWS:
            return source
        if node.op == "getitem" and self.old[source].op in _PARTED:
            return source
        unchanged = node.op == "to" and node.dtype == self.old[source].dtype and ("copy", True) not in node.kwargs
        return source if unchanged else None

    def itself(self, index: int) -> int:
        return self.same.get(index, index)

    def set(self, index: int, value: int) -> None:
        self.value[index] = value
        self.stamp[index] = self.writes.get(self.base[index], 0)

    def emit(self, node: Node, *, made: bool = False) -> int:
        index = len(self.nodes)
        self.nodes.append(replace(node, index=index))
        if made:
            self.made.add(index)
        return index

    def read(self, index: int) -> int:
        """The new node that holds an old value now; a view of a base that was written since is taken anew."""
        index = self.itself(index)
        if self.stamp[index] != self.writes.get(self.base[index], 0):
            self.set(index, self.emit(self.reread(self.old[index])))
        return self.value[index]

    def reread(self, node: Node) -> Node:
        return _renumbered(node, self.read)

    def write(self, node: Node, target: int) -> None:
        """Rewrite an in-place node: `target` and what shares its memory have a new value from here on."""
        self.same[node.index] = target
        if node.op in _UNCHANGED:
            return
        new = self.written(node, target)
        if node.op in _RESHAPED:
            self.value[target] = new
            return
        base = self.base[target]
        whole = new if base == target else self.rebuilt(node, target, base, new)
        self.writes[base] = self.writes.get(base, 0) + 1
        self.set(base, whole)
        self.set(target, new)

    def written(self, node: Node, target: int) -> int:
        """The new node of what an in-place node writes."""
        held = self.old[target]
        match node.op.strip("_"):
            case "copy":
                return self.fitted(node, held)
            case "fill" if isinstance(node.args[1], Ref):
                return self.fitted(node, held)
            case "fill" | "zero":
                value = node.args[1] if len(node.args) > 1 else 0
                return self.emit(replace(node, op="full", args=(held.shape, value), kwargs=()))
            case "setitem":
                part = self.reread(replace(node, args=(Ref(target), node.args[2])))
                return self.emit(replace(part, op="scatter", shape=held.shape, dtype=held.dtype))
        return self.emit(self.reread(replace(node, op=_plain(node.op))))

    def fitted(self, node: Node, held: Node) -> int:
        """The value that is copied, in the dtype and shape of the one that it replaces."""
        assert isinstance(node.args[1], Ref)
        index = self.read(node.args[1].node)
        if self.nodes[index].dtype != held.dtype:
            index = self.emit(
                replace(node, op="to", args=(Ref(index), held.dtype), kwargs=(), shape=self.nodes[index].shape)
            )
        if self.nodes[index].shape != held.shape:
            index = self.emit(replace(node, op="expand", args=(Ref(index), held.shape), kwargs=()))
        return index

    def rebuilt(self, node: Node, target: int, base: int, new: int) -> int:
        """The base's new value, after `new` was written through the view `target`."""
        held = self.old[base]
        if not self.covers(target, base):
            args = (Ref(self.value[base]), Ref(new))
            return self.emit(
                replace(node, op="scatter", args=args, kwargs=(), shape=held.shape, dtype=held.dtype), made=True
            )
        if self.nodes[new].shape == held.shape:
            return new
        return self.emit(replace(node, op="view", args=(Ref(new), held.shape), kwargs=(), shape=held.shape), made=True)

    def covers(self, target: int, base: int) -> bool:
        """Whether a view holds every element of its base in the base's order."""
        while target != base:
            source = self.viewed[target]
            alike = self.old[target].shape == self.old[source].shape
            if self.old[target].op not in _WHOLE_VIEWS and not (
                alike and self.old[target].op in ("slice", "expand", "to")
            ):
                return False
            target = source
        return True


def _renumbered(node: Node, place: Callable[[int], int]) -> Node:
    def moved(arg: Arg) -> Arg:
        if isinstance(arg, Ref):
            return Ref(place(arg.node))
        return tuple(moved(item) for item in arg) if isinstance(arg, tuple) else arg

    args = tuple(moved(arg) for arg in node.args)
    return replace(node, args=args, kwargs=tuple((name, moved(value)) for name, value in node.kwargs))


def _without_unread(
    nodes: list[Node], made: set[int], outputs: tuple[int, ...]
) -> tuple[tuple[Node, ...], tuple[int, ...]]:
    """Leaves out rebuilt bases that nobody reads, and closes the gaps in the numbering."""
    read = set(outputs)
    kept: list[Node] = []
    for node in reversed(nodes):
        if node.index in made and node.index not in read:
            continue
        kept.append(node)
        read.update(refs(node.args), *(refs(value) for _, value in node.kwargs))
    place = {node.index: index for index, node in enumerate(reversed(kept))}
    renumbered = tuple(
        _renumbered(replace(node, index=place[node.index]), place.__getitem__) for node in reversed(kept)
    )
    return renumbered, tuple(place[index] for index in outputs)
