"""What is suggested for a model that nobody has mapped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from automatch.core.mapping import Side
from automatch.known.draft import Suggestion, draft, lead
from automatch.known.known import Known
from automatch.known.library import library as known_conversions
from automatch.trace import trace


def suggest(source: Any, target: Any = None, *, library: Sequence[str | os.PathLike[str]] = ()) -> Suggestion:
    """Draft a mapping from what is known of other models; nothing is run, and no code is needed.

    Known conversions are ranked by how much of the models their rules speak of with the right shapes. The draft takes
    the best of them, and names, shapes and order for what they leave. It is a mapping like any other: `Mapping.prove`
    and `Mapping.check` accept or correct it.

    Args:
        source: Where weights come from: a module, a state dict, or the path of a checkpoint.
        target: What they are for, in the same forms. None for the model that the best conversion leads to.
        library: Folders with further known conversions, as `automatch remember` writes them.

    Returns:
        The ranking, what was taken, and the draft.

    Raises:
        RulesError: A folder of known conversions is damaged; or no target is given, and none reads the source.
        CheckpointError: A path is not a checkpoint.

    Example:
        >>> from torch import nn
        >>> old = nn.ModuleDict({"fc1": nn.Linear(2, 4), "fc2": nn.Linear(4, 2)})
        >>> new = nn.ModuleDict({"linear1": nn.Linear(2, 4), "linear2": nn.Linear(4, 2)})
        >>> found = suggest(old, new)
        >>> [entry.sources for entry in found.draft.entries][:2]
        [('fc1.weight',), ('fc1.bias',)]
    """
    return suggestion(source, target, known_conversions(library))


def suggestion(source: Any, target: Any, known: Sequence[Known]) -> Suggestion:
    """The same, from conversions that have been read.

    Raises:
        RulesError: No target is given, and none of the conversions reads the source.
        CheckpointError: A path is not a checkpoint.
    """
    ours = Side.of(trace(source, label="source", names_only=True))
    if target is None:
        return lead(ours, known)
    return draft(ours, Side.of(trace(target, label="target", names_only=True)), known)
