"""What every rung of the ladder hands over: an fx graph, and what its placeholders stand for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import fx, nn
from torch.export import ExportedProgram


@dataclass(frozen=True, slots=True)
class Origin:
    """What a placeholder or attribute of a recorded graph stands for.

    Attributes:
        kind: A weight of the state dict, an input of the model, or a tensor that is neither.
        name: The `Weight.name`, the argument's path, or the constant's name.
    """

    kind: Literal["weight", "input", "constant"]
    name: str = ""


@dataclass(frozen=True, slots=True)
class Recording:
    """An fx graph whose outputs are the tensors that the model returned, in order.

    Attributes:
        module: The recorded graph and the tensors that it holds.
        origins: By placeholder name, what it stands for. A placeholder without an entry is a Python value that the
            recording has already taken in.
        shared_modules: For every further path that leads to a module, the path that `named_modules` gives it.
        notes: What a reader of the evidence should know about this recording.
        exported: What the graph was taken from, where torch exported it; None for one recorded run.
    """

    module: fx.GraphModule
    origins: Mapping[str, Origin]
    shared_modules: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    exported: ExportedProgram | None = None


ONE_PATH = "recorded along the branches that these inputs take: what they do not reach is not in the graph"


def shared_modules(model: nn.Module) -> dict[str, str]:
    """Further paths of modules that a model holds more than once, with the path that `named_modules` gives each.

    Example:
        >>> layer = nn.Linear(1, 1)
        >>> shared_modules(nn.Sequential(layer, layer))
        {'1': '0'}
    """
    first = {module: path for path, module in model.named_modules()}
    every = model.named_modules(remove_duplicate=False)
    return {path: first[module] for path, module in every if first[module] != path}
