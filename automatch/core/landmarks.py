"""Landmarks: the few operators that say what a network does, with everything transparent between them left out.

A landmark is a contraction (linear, convolution, matrix product with a weight), an embedding, attention, a norm, an
activation, a sum, a product, a concatenation, an input or an output. Views, casts, scalar arithmetic, rotary embedding
and the repetition of grouped heads lie on the edges. Weights belong to landmarks, by role.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from automatch.core.alignment import Form, View
from automatch.core.graph import Graph, Shape

Kind: TypeAlias = Literal[
    "input",
    "output",
    "contraction",
    "embedding",
    "attention",
    "product",
    "norm",
    "activation",
    "add",
    "mul",
    "concat",
    "other",
]


@dataclass(frozen=True, slots=True)
class Edge:
    """A landmark's operand that comes from another landmark.

    Attributes:
        source: Index of the landmark that produced it.
        role: Which operand it is (`"x"`, `"query"`, `"key"`, `"value"`, `"bias"`, `"0"` ...).
        port: The nodes that took a part of the producer's value (slices, chunks), outermost first; empty for all of it.
    """

    source: int
    role: str
    port: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Use:
    """A weight at work in a landmark.

    Attributes:
        role: What it does there (`"weight"`, `"bias"`, `"running_mean"`, `"addend"`, `"scale"`, `"table"` ...).
        weight: Its state-dict key (`Weight.name`).
        view: How the landmark sees it; the canonical form is given by `form`.
        form: What the canonical axes mean.
        exact: Whether `view` tells the whole story between the stored and the seen weight.
        covers: Where several weights were joined into one operand: which entries of its first axis are this weight's,
            from (included) and to (excluded). None where the weight is all of the operand.
    """

    role: str
    weight: str
    view: View = View()
    form: Form = "other"
    exact: bool = True
    covers: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Landmark:
    """One landmark.

    Attributes:
        index: Its place in `LandmarkGraph.landmarks`, which is execution order.
        kind: What it is.
        label: The operator as traced (`"gelu"`, `"conv2d"`, `"rms_norm"`), or an input's name.
        node: The node of the traced graph whose value it produces.
        ins: Operands that come from landmarks.
        uses: Weights at work in it.
        shape: Shape of its value.
        channels: The axis of its value along which the first canonical axis of its weight lies; None if not known.
        module: Path of the module that recorded it; a name, used for remarks only.
    """

    index: int
    kind: Kind
    label: str
    node: int
    ins: tuple[Edge, ...]
    uses: tuple[Use, ...]
    shape: Shape
    channels: int | None = None
    module: str = ""

    def use(self, role: str, covers: tuple[int, int] | None = None) -> Use | None:
        """The weight in a role, if there is one; of several that were joined, the one that covers these entries."""
        return next((use for use in self.uses if use.role == role and use.covers in (None, covers)), None)


@dataclass(frozen=True, slots=True)
class LandmarkGraph:
    """A lowered graph.

    Attributes:
        graph: The canonical graph that was lowered; `Landmark.node` and ports point into it.
        landmarks: In execution order; every one reaches an output.
        unknown: Operators that no rule understands, sorted; they became landmarks of kind `other`.
    """

    graph: Graph
    landmarks: tuple[Landmark, ...]
    unknown: tuple[str, ...] = ()
