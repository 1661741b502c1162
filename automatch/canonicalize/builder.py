"""Collects landmarks while a graph is lowered."""

from __future__ import annotations

from dataclasses import replace

from automatch.canonicalize.values import FIXED, Blend, Data, Fixed, Index, Stored, Value
from automatch.core.alignment import Form
from automatch.core.graph import Graph, Node, Ref, operands
from automatch.core.landmarks import Edge, Kind, Landmark, Use


class Builder:
    """The state of one lowering: a value for every node read so far, and the landmarks found.

    Attributes:
        graph: The graph that is lowered.
        values: What each node is, by node index.
        landmarks: In execution order.
        unknown: Operators that no rule understands.
        shapes: Shapes of the stored weights.
    """

    def __init__(self, graph: Graph) -> None:
        """Start with nothing read."""
        self.graph = graph
        self.values: list[Value] = []
        self.landmarks: list[Landmark] = []
        self.unknown: set[str] = set()
        self.shapes = {weight.name: weight.shape for weight in graph.weights}
        self._learned: dict[Value, Data] = {}

    def value(self, arg: object) -> Value | None:
        """The value an argument refers to, buffers counted as fixed; None where it is no tensor."""
        value = self.stored_value(arg)
        return FIXED if isinstance(value, Stored) and value.buffer else value

    def stored_value(self, arg: object) -> Value | None:
        """The same where a buffer counts as a weight: a batch norm's statistics."""
        return self.values[arg.node] if isinstance(arg, Ref) else None

    def operand_values(self, node: Node) -> list[Value]:
        """The values a node reads, in argument order, buffers counted as fixed."""
        return [value for index in operands(node) if (value := self.value(Ref(index))) is not None]

    def add(
        self,
        kind: Kind,
        node: Node,
        ins: tuple[tuple[str, Value | None], ...] = (),
        uses: tuple[Use, ...] = (),
        label: str = "",
        channels: int | None = None,
    ) -> Data:
        """Add a landmark; operands that are fixed or absent make no edge."""
        edges = tuple(edge for role, value in ins for edge in _edges(role, value))
        index = len(self.landmarks)
        shape = node.shape or ()
        self.landmarks.append(
            Landmark(index, kind, label or node.op, node.index, edges, uses, shape, channels, node.module)
        )
        return Data(index)

    def absorb(self, landmark: int, use: Use) -> None:
        """Give an existing landmark one more weight (a bias that was added after the product)."""
        old = self.landmarks[landmark]
        self.landmarks[landmark] = replace(old, uses=(*old.uses, use))

    def as_data(self, value: Value | None, node: Node) -> Value | None:
        """A value in a place where data flows: weights there (learned queries, class tokens) become a landmark."""
        if not isinstance(value, Stored | Blend):
            return value
        if value not in self._learned:
            self._learned[value] = self.add("embedding", node, uses=uses_of("table", value, "table"), label="learned")
        return self._learned[value]

    def output(self, node: Node, value: Value) -> None:
        """Add an output."""
        if isinstance(value, Data):
            self.add("output", node, (("x", value),), label="output")


def uses_of(role: str, value: Value | None, form: Form) -> tuple[Use, ...]:
    """The weights that a value brings into a role; a blend's further parts are numbered `role+1`, `role+2`."""
    if isinstance(value, Stored):
        return (_use(role, value, form),)
    if isinstance(value, Blend) and all(part.covers for part in value.parts):
        return tuple(_use(role, part, form) for part in value.parts)
    if isinstance(value, Blend):
        main = sorted(value.parts, key=lambda part: -len([size for size in part.shape if size != 1]))
        names = [role, *(f"{role}+{i}" for i in range(1, len(main)))]
        return tuple(replace(_use(name, part, form), exact=False) for name, part in zip(names, main, strict=True))
    return ()


def _use(role: str, value: Stored, form: Form) -> Use:
    return Use(role, value.weight, value.view, form, value.exact, value.covers)


def _edges(role: str, value: Value | None) -> tuple[Edge, ...]:
    match value:
        case Data(landmark=landmark, port=port):
            return (Edge(landmark, role, port),)
        case Index(inputs=inputs):
            return tuple(Edge(index, role) for index in inputs)
        case Fixed() | Stored() | Blend() | None:
            return ()
