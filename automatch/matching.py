"""From two models to a mapping: the whole story in one place."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as MappingABC
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from torch import nn
from torch.export import ExportedProgram

from automatch.align.names import align_names
from automatch.align.policy import LayerPolicy
from automatch.align.structure import align_structure
from automatch.canonicalize import to_landmarks
from automatch.core.alignment import Alignment
from automatch.core.graph import Graph
from automatch.core.mapping import MappingRecord, Side
from automatch.mapping import Mapping
from automatch.synthesize import synthesize
from automatch.trace import trace

if TYPE_CHECKING:
    from torch import Tensor

Model: TypeAlias = "nn.Module | ExportedProgram | MappingABC[str, Tensor] | str | PathLike[str]"
Progress: TypeAlias = Callable[[str], None]


def match(
    source: Model,
    target: Model,
    *,
    source_inputs: Any = None,
    target_inputs: Any = None,
    layers: LayerPolicy = "uniform",
    allow_untraced: bool = False,
    progress: Progress | None = None,
) -> Mapping:
    """Find out how one model's weights map onto another's.

    Neither model is changed, and models on the meta device are never materialised. Where both sides have code, they
    are aligned by structure; where one is known by its state dict alone, by names and shapes.

    Args:
        source: Where weights come from: a module (real or meta), an exported program, a state dict (meta tensors will
            do), or the path of a checkpoint.
        target: What they are for, in the same forms.
        source_inputs: Example inputs `(args, kwargs)` of the source's forward. Needed where they cannot be derived and
            the side has code.
        target_inputs: The same for the target.
        layers: Which source layer a target layer takes where depths differ: `uniform` (`int(i * n / m)`), `first`,
            `last`, or a list of source layers.
        allow_untraced: Whether a model that cannot be traced may be matched by names and shapes alone.
        progress: Called with a short sentence at the start of each stage.

    Returns:
        A mapping with an entry for every key of the target's state dict.

    Raises:
        InputsError: Inputs are missing or do not fit a model's forward.
        TraceError: A model cannot be traced.
        CheckpointError: A path is not a checkpoint.
        PolicyError: A list of layers does not fit the models.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> teacher = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
        >>> student = nn.ModuleDict({"a": nn.Linear(4, 8), "b": nn.Linear(8, 2)})
        >>> student.forward = lambda x: student["b"](student["a"](x).relu())
        >>> x = ((torch.randn(3, 4),), {})
        >>> mapping = match(teacher, student, source_inputs=x, target_inputs=x)
        >>> mapping["b.weight"].sources
        ('2.weight',)
    """
    say = progress or _silent
    # where one side is names and shapes alone, the other side's code has nothing to be compared with yet
    names_only = not (_has_code(source) and _has_code(target))
    ours, theirs = (
        trace(side, inputs, label=label, allow_untraced=allow_untraced, names_only=names_only, progress=say)
        for side, inputs, label in ((source, source_inputs, "source"), (target, target_inputs, "target"))
    )
    say("matching")
    alignment = _align(ours, theirs, layers)
    entries = synthesize(alignment, ours, theirs)
    return Mapping(MappingRecord(_side(ours), _side(theirs), entries, alignment.chains, alignment.notes))


def _align(source: Graph, target: Graph, layers: LayerPolicy) -> Alignment:
    if not source.nodes or not target.nodes:
        return align_names(source, target, layers)
    return align_structure(to_landmarks(source), to_landmarks(target), layers)


def _has_code(model: Model) -> bool:
    return isinstance(model, nn.Module | ExportedProgram)


def _side(graph: Graph) -> Side:
    return Side(graph.name, graph.rung, graph.weights, graph.notes)


def _silent(_: str) -> None:
    """Report nothing."""
