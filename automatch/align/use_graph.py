"""One side of an alignment: its landmarks as a networkx graph, its repeated blocks, and where each landmark lies."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import networkx as nx

from automatch.core.graph import Shape
from automatch.core.landmarks import Edge, Landmark, LandmarkGraph

_SHARED = ("edges", "shapes", "_readers", "live")


@dataclass(frozen=True, slots=True)
class Chain:
    """Blocks that repeat, each fed by the one before.

    Attributes:
        cuts: Boundaries in execution order; block `j` is landmarks `cuts[j]` to `cuts[j + 1]` (excluded).
        irregular: Blocks whose make-up differs from the others' (a first block with a projection, say).
    """

    cuts: tuple[int, ...]
    irregular: frozenset[int] = frozenset()

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.cuts) - 1

    def block(self, number: int) -> range:
        """Landmarks of one block."""
        return range(self.cuts[number], self.cuts[number + 1])

    @property
    def sample(self) -> int:
        """A block that is like most others: the middle one, regular if any is."""
        regular = [number for number in range(self.depth) if number not in self.irregular]
        return regular[len(regular) // 2] if regular else self.depth // 2


@dataclass(frozen=True)
class UseGraph:
    """Landmarks and the edges between them, with the chains found among them.

    Attributes:
        lowered: The landmarks.
        chains: Repeated blocks, in execution order.
    """

    lowered: LandmarkGraph
    chains: tuple[Chain, ...] = field(default=())

    @cached_property
    def edges(self) -> nx.MultiDiGraph[int]:
        """The parameter-use graph: landmarks by index, an edge per operand with its `Edge` as attribute."""
        graph: nx.MultiDiGraph[int] = nx.MultiDiGraph()
        graph.add_nodes_from(range(len(self.landmarks)))
        for landmark in self.landmarks:
            graph.add_edges_from((edge.source, landmark.index, {"edge": edge}) for edge in landmark.ins)
        return graph

    @property
    def landmarks(self) -> tuple[Landmark, ...]:
        """All landmarks, in execution order."""
        return self.lowered.landmarks

    def cut_into(self, chains: tuple[Chain, ...]) -> UseGraph:
        """The same graph with other chains; what does not depend on them is not computed again."""
        other = UseGraph(self.lowered, chains)
        known = {name: self.__dict__[name] for name in _SHARED if name in self.__dict__}
        other.__dict__.update(known)
        return other

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shapes of the stored weights."""
        return {weight.name: weight.shape for weight in self.lowered.graph.weights}

    def readers(self, index: int) -> list[tuple[Landmark, Edge]]:
        """Who reads a landmark's value, with the operand it is."""
        return self._readers[index]

    @cached_property
    def _readers(self) -> list[list[tuple[Landmark, Edge]]]:
        readers: list[list[tuple[Landmark, Edge]]] = [[] for _ in self.landmarks]
        for source, reader, data in self.edges.edges(data=True):
            readers[source].append((self.landmarks[reader], data["edge"]))
        return readers

    @cached_property
    def places(self) -> dict[int, tuple[int, int]]:
        """For every landmark in a chain: the chain's number and the block's."""
        return {
            index: (number, block)
            for number, chain in enumerate(self.chains)
            for block in range(chain.depth)
            for index in chain.block(block)
        }

    def outside(self) -> Iterator[Landmark]:
        """Landmarks that lie in no chain."""
        return (landmark for landmark in self.landmarks if landmark.index not in self.places)

    @cached_property
    def live(self) -> tuple[int, ...]:
        """For every cut before landmark `q`, how many values cross it; inputs and outputs do not count."""
        change = [0] * (len(self.landmarks) + 2)
        for landmark in self.landmarks:
            last = self.last_reader(landmark.index)
            if landmark.kind != "input" and last > landmark.index:
                change[landmark.index + 1] += 1
                change[last + 1] -= 1
        counts = [0]
        for step in change[1:]:
            counts.append(counts[-1] + step)
        return tuple(counts)

    def last_reader(self, index: int) -> int:
        """The last landmark, outputs aside, that reads a value; -1 if none does."""
        return max((reader.index for reader, _ in self.readers(index) if reader.kind != "output"), default=-1)
