"""Tiny models for the tests of the stages, and what the stages make of them as lines of text."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import automatch
from automatch.align.chains import with_chains
from automatch.align.policy import LayerPolicy
from automatch.align.structure import align_structure
from automatch.align.use_graph import UseGraph
from automatch.apply.evaluate import evaluate
from automatch.canonicalize import canonicalize, lower
from automatch.core.alignment import Alignment
from automatch.core.expr import Source
from automatch.core.expr import text as written
from automatch.core.graph import Graph, operands
from automatch.core.landmarks import Edge, Kind, Landmark, LandmarkGraph, Use
from automatch.synthesize.build import seen
from automatch.trace import trace

Forward: TypeAlias = Callable[..., Any]
"""What a `Net` computes: a function of the net itself and of its inputs."""

_DICE = torch.Generator().manual_seed(0)


def weight(*shape: int) -> Tensor:
    """A tensor of random numbers, another one on every call."""
    return torch.randn(shape, generator=_DICE)


class Net(nn.Module):
    """A model on one line: `Net(lambda m, x: m.up(x) * m.scale, up=nn.Linear(4, 8), scale=weight(8))`.

    Args:
        compute: What it computes, from itself and its inputs.
        parts: Modules, and tensors, which become parameters (an `nn.Buffer` stays one).
    """

    def __init__(self, compute: Forward, **parts: nn.Module | Tensor) -> None:
        super().__init__()
        self.compute = compute
        for name, part in parts.items():
            setattr(self, name, part if isinstance(part, nn.Module | nn.Buffer) else nn.Parameter(part))
        self.eval()

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)  # typed for the lambdas, which know what they find

    def forward(self, *inputs: Tensor) -> Any:
        return self.compute(self, *inputs)


# Building blocks: width 8, two heads


def heads(x: Tensor, count: int = 2) -> Tensor:
    """`[batch, tokens, width]` as `[batch, heads, tokens, width of a head]`."""
    return x.reshape(*x.shape[:2], count, -1).transpose(1, 2)


def merged(x: Tensor) -> Tensor:
    """The inverse of `heads`."""
    return x.transpose(1, 2).flatten(2)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention with two heads of queries, keys and values that are not yet split into heads."""
    return merged(F.scaled_dot_product_attention(heads(q), heads(k), heads(v)))


def linears(names: Sequence[str], inputs: int = 8, outputs: int = 8, bias: bool = True) -> dict[str, nn.Module]:
    """A linear layer for every name."""
    return {name: nn.Linear(inputs, outputs, bias=bias) for name in names}


def attention() -> Net:
    """Attention with separate projections `q`, `k`, `v`, `o`; of two inputs, the second gives keys and values."""

    def compute(m: Net, x: Tensor, memory: Tensor | None = None) -> Tensor:
        other = x if memory is None else memory
        out: Tensor = m.o(attend(m.q(x), m.k(other), m.v(other)))
        return out

    return Net(compute, **linears("qkvo"))


class Block(nn.Module):
    """A transformer's block, with cross-attention where it is called with a memory.

    Args:
        post: Whether norms stand after the sums rather than at the start of the branches.
        cross: Whether it has cross-attention.
        hidden: Width of its feed-forward part.
    """

    def __init__(self, post: bool = False, cross: bool = False, hidden: int = 16) -> None:
        super().__init__()
        self.post = post
        self.att = attention()
        self.n1 = nn.LayerNorm(8)
        if cross:
            self.cross = attention()
            self.n2 = nn.LayerNorm(8)
        self.n3 = nn.LayerNorm(8)
        self.up = nn.Linear(8, hidden)
        self.down = nn.Linear(hidden, 8)

    def forward(self, x: Tensor, memory: Tensor | None = None) -> Tensor:
        x = self.branch(x, self.n1, self.att)
        if memory is not None:
            x = self.branch(x, self.n2, lambda y: self.cross(y, memory))
        return self.branch(x, self.n3, lambda y: self.down(F.gelu(self.up(y))))

    def branch(self, x: Tensor, norm: nn.Module, function: Callable[[Tensor], Tensor]) -> Tensor:
        out: Tensor = norm(x + function(x)) if self.post else x + function(norm(x))
        return out


class Stack(nn.Module):
    """Blocks one after another, `blocks.0` to `blocks.{depth - 1}`, between a stem and a head.

    Args:
        depth: Number of blocks.
        post: Whether they are post-norm.
        first: What makes the first block, if it differs.
    """

    def __init__(self, depth: int, post: bool = False, first: Callable[[], nn.Module] | None = None) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.blocks = nn.ModuleList(Block(post) for _ in range(depth))
        if first is not None:
            self.blocks[0] = first()
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        out: Tensor = self.head(self.norm(x))
        return out


class EncoderDecoder(nn.Module):
    """Token ids twice, an encoder `enc.{i}`, a decoder `dec.{i}` that attends to it, a head tied to its embedding."""

    def __init__(self, encoder: int, decoder: int, post: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 8)
        self.enc = nn.ModuleList(Block(post) for _ in range(encoder))
        self.norm = nn.LayerNorm(8)
        self.out_words = nn.Embedding(12, 8)
        self.dec = nn.ModuleList(Block(post, cross=True) for _ in range(decoder))
        self.out_norm = nn.LayerNorm(8)

    def forward(self, ids: Tensor, out_ids: Tensor) -> Tensor:
        memory = self.words(ids)
        for block in self.enc:
            memory = block(memory)
        memory, x = self.norm(memory), self.out_words(out_ids)
        for block in self.dec:
            x = block(x, memory)
        return F.linear(self.out_norm(x), self.out_words.weight)


class Residual(nn.Module):
    """A residual network's block, with a projection on the shortcut where the shape changes."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.b1 = nn.BatchNorm2d(outputs)
        self.c2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.b2 = nn.BatchNorm2d(outputs)
        self.short: nn.Module = nn.Identity()
        if inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.b2(self.c2(F.relu(self.b1(self.c1(x)))))
        return F.relu(y + self.short(x))


class Stages(nn.Module):
    """A residual network: `stages.{stage}.{block}`, of width 4, 8, 12, 16."""

    def __init__(self, *depths: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.stages = nn.ModuleList()
        width = 4
        for stage, depth in enumerate(depths):
            before, width = width, 4 * (stage + 1)
            first = Residual(before, width, stride=1 if stage == 0 else 2)
            self.stages.append(nn.ModuleList([first, *(Residual(width, width, 1) for _ in range(depth - 1))]))
        self.head = nn.Linear(width, 5)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.stem(x)))
        for stage in self.stages:
            for block in stage:  # type: ignore[attr-defined]  # a ModuleList of ModuleLists
                x = block(x)
        out: Tensor = self.head(x.mean((2, 3)))
        return out


class TwoStreamBlock(nn.Module):
    """Two kinds of tokens, each with its own weights (`a...`, `b...`), that attend jointly."""

    def __init__(self) -> None:
        super().__init__()
        for stream in "ab":
            for name, part in {**linears("qkvo"), "up": nn.Linear(8, 16), "down": nn.Linear(16, 8)}.items():
                self.add_module(stream + name, part)
            self.add_module(f"{stream}n1", nn.LayerNorm(8))
            self.add_module(f"{stream}n2", nn.LayerNorm(8))

    def __getattr__(self, name: str) -> Any:
        return super().__getattr__(name)

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        x, y = self.an1(a), self.bn1(b)
        q, k, v = (torch.cat((getattr(self, f"a{name}")(x), getattr(self, f"b{name}")(y)), 1) for name in "qkv")
        mixed = attend(q, k, v)
        a = a + self.ao(mixed[:, : a.shape[1]])
        b = b + self.bo(mixed[:, a.shape[1] :])
        a = a + self.adown(F.gelu(self.aup(self.an2(a))))
        return a, b + self.bdown(F.gelu(self.bup(self.bn2(b))))


class TwoStreams(nn.Module):
    """Two-stream blocks over features and token ids; both streams are returned."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 8)
        self.words = nn.Embedding(10, 8)
        self.blocks = nn.ModuleList(TwoStreamBlock() for _ in range(depth))
        self.head = nn.Linear(8, 5)
        self.norm = nn.LayerNorm(8)

    def forward(self, x: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        a, b = self.stem(x), self.words(ids)
        for block in self.blocks:
            a, b = block(a, b)
        return self.head(a), self.norm(b)


INPUTS: dict[type[nn.Module], tuple[Tensor, ...]] = {
    Stack: (weight(2, 3, 6),),
    EncoderDecoder: (torch.tensor([[1, 2, 3], [4, 5, 6]]), torch.tensor([[7, 8, 9], [1, 0, 2]])),
    Stages: (weight(1, 3, 16, 16),),
    TwoStreams: (weight(2, 3, 6), torch.tensor([[1, 2, 3], [4, 5, 6]])),
}
"""What the models above are run on."""


def disguised(model: nn.Module, seed: int) -> tuple[nn.Module, dict[str, str]]:
    """A copy whose attributes have other names and are registered in another order, and its keys' old names.

    What iterates over its children (lists, sequences) keeps their order, which is the order they run in.
    """
    model = copy.deepcopy(model)
    chance = random.Random(seed)
    old = {id(tensor): name for name, tensor in model.state_dict(keep_vars=True).items()}
    for module in list(model.modules()):
        _disguise(module, chance)
    return model, {name: old[id(tensor)] for name, tensor in model.state_dict(keep_vars=True).items()}


def _disguise(module: nn.Module, chance: random.Random) -> None:
    alias: dict[str, str] = {}
    tables: list[dict[str, Any]] = [module._parameters, module._buffers, module._modules]
    for table in tables:
        entries = list(table.items())
        table.clear()
        if not isinstance(module, nn.ModuleList | nn.Sequential):
            chance.shuffle(entries)
        for name, value in entries:
            alias[name] = f"{2 * chance.choice('stuvwxyz')}{len(alias)}"  # no attribute has such a name already
            table[alias[name]] = value

    class Disguised(type(module)):  # type: ignore[misc]  # made for this one module
        def __getattr__(self, name: str) -> Any:
            return super().__getattr__(alias.get(name, name))

    module.__class__ = Disguised


# Stages on models


def canonical(model: nn.Module, *inputs: Tensor) -> Graph:
    """The canonical graph of a model, traced on these inputs."""
    return canonicalize(trace(model, inputs))


def landmarks_of(model: nn.Module, *inputs: Tensor) -> LandmarkGraph:
    """The landmarks of a model, traced on these inputs."""
    return lower(canonical(model, *inputs))


_LOWERED: dict[tuple[Any, ...], LandmarkGraph] = {}


def lowered(kind: type[nn.Module], *args: Any) -> LandmarkGraph:
    """The landmarks of one of the models above, `lowered(Stack, 3)`, traced once in a test run."""
    if (kind, *args) not in _LOWERED:
        _LOWERED[kind, *args] = landmarks_of(kind(*args), *INPUTS[kind])
    return _LOWERED[kind, *args]


def use_graph(model: nn.Module, *inputs: Tensor) -> UseGraph:
    """The landmarks of a model, cut into chains of repeated blocks."""
    return with_chains(UseGraph(landmarks_of(model, *inputs)))


def aligned(source: nn.Module, target: nn.Module, *inputs: Tensor) -> Alignment:
    """Two models aligned on the same inputs."""
    return align_structure(landmarks_of(source, *inputs), landmarks_of(target, *inputs))


def matched(
    source: nn.Module, target: nn.Module, *inputs: Tensor, layers: LayerPolicy = "uniform"
) -> automatch.Mapping:
    """Two models matched on the same inputs."""
    return automatch.match(source, target, source_inputs=inputs, target_inputs=inputs, layers=layers, run=False)


# Text


def lines(graph: LandmarkGraph) -> list[str]:
    """One line a landmark: `"2 contraction(x=0) weight=w.T bias=b"`.

    Operands are numbers of lines; a dash follows where only a part is read. Weights are written as they are seen; a
    tilde precedes those whose view does not tell all.
    """
    return [line(graph, landmark) for landmark in graph.landmarks]


def line(graph: LandmarkGraph, landmark: Landmark) -> str:
    """One landmark as text."""
    operands = ", ".join(f"{edge.role}={_operand(edge)}" for edge in landmark.ins)
    head = f"{landmark.index} {landmark.kind}" + (f"({operands})" if landmark.ins else "")
    return " ".join([head, *(f"{use.role}={view_text(graph, use)}" for use in landmark.uses)])


def _operand(edge: Edge) -> str:
    return f"{edge.source}-" if edge.port else str(edge.source)


def view_text(graph: LandmarkGraph, use: Use) -> str:
    """A weight as its operator sees it: `"w.T"`, `"1 + g"`, `"qkv[0:8]"`; `"~w"` where the view does not tell all."""
    return written(seen(_stored(graph, use), use.view)) if use.exact else f"~{use.weight}"


def _stored(graph: LandmarkGraph, use: Use) -> Source:
    shapes = {weight.name: weight.shape for weight in graph.graph.weights}
    return Source(use.weight, shapes[use.weight])


def seen_value(graph: LandmarkGraph, use: Use | None, model: nn.Module) -> Tensor:
    """The numbers that an operator sees of a weight, according to the view."""
    assert use is not None
    return evaluate(seen(_stored(graph, use), use.view), model.state_dict().__getitem__)


def only(graph: LandmarkGraph, kind: Kind) -> Landmark:
    """The one landmark of a kind."""
    (found,) = (landmark for landmark in graph.landmarks if landmark.kind == kind)
    return found


def kinds(graph: LandmarkGraph) -> list[Kind]:
    """The kinds of the landmarks, inputs and outputs left out."""
    return [landmark.kind for landmark in graph.landmarks if landmark.kind not in ("input", "output")]


def ops(graph: Graph) -> list[str]:
    """Operators that the first output depends on, in execution order."""
    needed, todo = set[int](), [graph.outputs[0]]
    while todo:
        node = graph.nodes[todo.pop()]
        if node.index not in needed:
            needed.add(node.index)
            todo += operands(node)
    return [graph.nodes[index].op for index in sorted(needed) if graph.nodes[index].op not in ("input", "weight")]


def uses_by_role(landmark: Landmark) -> dict[str, str]:
    """The weights at work in a landmark."""
    return {use.role: use.weight for use in landmark.uses}


def texts(mapping: automatch.Mapping) -> dict[str, str]:
    """Every entry's expression as text; of an unmapped one, `"-"`."""
    return {entry.target: "-" if entry.expr is None else written(entry.expr) for entry in mapping.entries}


def statuses(mapping: automatch.Mapping) -> dict[str, str]:
    """Every entry's status."""
    return {entry.target: entry.status for entry in mapping.entries}
