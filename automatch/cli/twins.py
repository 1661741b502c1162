"""`automatch match --source-twin ... --target-twin ...`: models too large to run, matched through small ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from automatch.cli.inputs import beside, from_factory
from automatch.cli.references import Factory, build, parse, seeded
from automatch.errors import ModelError


def options(source: str | None, target: str | None) -> dict[str, Any]:
    """The arguments of `automatch.match` that the twins' names stand for.

    Raises:
        ModelError: Only one is named, or one names no factory.
        InputsError: A function of example inputs fails.
    """
    if source is None or target is None:
        missing = "--source-twin" if source is None else "--target-twin"
        raise ModelError(f"{missing} is missing: a twin of one side alone has nothing to be matched with")
    found: dict[str, Any] = {}
    for seed, (which, reference) in enumerate((("source", source), ("target", target))):
        factory = _factory(which, reference)
        inputs = beside(factory)
        found[f"{which}_twin"] = _Twin(factory, seed)
        found[f"{which}_twin_inputs"] = from_factory(inputs, factory) if inputs else None
    return found


class _Twin:
    """A factory that the user named, to be called for a model with real tensors."""

    def __init__(self, factory: Factory, seed: int) -> None:
        self._factory, self._seed = factory, seed

    def __call__(self) -> nn.Module:
        """The twin.

        Raises:
            ModelError: The factory fails, or makes no module.
        """
        with seeded(self._seed):
            made = build(self._factory, "cpu")
        if not isinstance(made, nn.Module):
            raise ModelError(f"{self._factory.reference}:{self._factory.name} makes no nn.Module; a twin is run")
        return made


def _factory(which: str, reference: str) -> Factory:
    factory = parse(reference)
    if isinstance(factory, Path):
        raise ModelError(f"--{which}-twin {reference} is a checkpoint; name a factory: a twin is code that is run")
    return factory
