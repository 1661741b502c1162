"""From rules and two models to a mapping."""

from __future__ import annotations

import os
from collections.abc import Mapping as MappingABC
from typing import Any

from automatch.core.mapping import Side
from automatch.mapping import Mapping
from automatch.rules import adapt as adapting
from automatch.rules.ruleset import RuleSet
from automatch.trace import trace


def adapt(
    rules: RuleSet | str | os.PathLike[str],
    source: Any,
    target: Any,
    *,
    sizes: MappingABC[str, int | str] | None = None,
) -> Mapping:
    """The mapping that rules give for two models of the family.

    Nothing is run: entries are `structural` at most, and `Mapping.prove` shows what they are worth.

    Args:
        rules: The rules, or the path of a rules file.
        source: Where weights come from: a module, a state dict, or the path of a checkpoint (with its `config.json`,
            where sizes are read from one).
        target: What they are for, in the same forms.
        sizes: Sizes that are given, by name: numbers, or where they are to be read.

    Returns:
        A mapping with an entry for every key of the target. What the rules leave undetermined is unmapped, with the
        reason.

    Raises:
        RulesError: The rules cannot be read, do not fit these models at all, or the source is converted already.
        CheckpointError: A path is not a checkpoint.

    Example:
        >>> import automatch
        >>> from torch import nn
        >>> small, large = (nn.Sequential(*[nn.Linear(2, 2) for _ in range(depth)]) for depth in (2, 5))
        >>> renamed = nn.ModuleDict({"layers": nn.ModuleList(small)})
        >>> rules = automatch.match(small.state_dict(), renamed.state_dict()).rules()
        >>> wanted = nn.ModuleDict({"layers": nn.ModuleList(large)})
        >>> automatch.adapt(rules, large, wanted)["layers.4.bias"].sources
        ('4.bias',)
    """
    chosen = rules if isinstance(rules, RuleSet) else RuleSet.load(rules)
    sides = [
        Side.of(trace(side, label=label, names_only=True)) for side, label in ((source, "source"), (target, "target"))
    ]
    return Mapping(adapting.adapt(chosen, sides[0], sides[1], sizes))
