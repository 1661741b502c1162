"""`automatch match --source-twin ... --target-twin ...`: models too large to run, matched through small ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from automatch import match
from automatch.align.policy import LayerPolicy
from automatch.cli.console import show
from automatch.cli.inputs import beside, from_factory
from automatch.cli.matching import INPUTS_HELP, Named, writable
from automatch.cli.progress import progress, without_torch_logs
from automatch.cli.references import Device, Factory, build, parse
from automatch.cli.sides import make, request
from automatch.errors import InputsError, ModelError
from automatch.report.summary import summary


def run(
    source: Named,
    target: Named,
    twins: tuple[str | None, str | None],
    output: Path,
    *,
    layers: LayerPolicy = "uniform",
    device: Device = "meta",
    allow_untraced: bool = False,
    quiet: bool = False,
) -> None:
    """Match two models through small twins of the same code, and write the mapping.

    Args:
        source: The side that has the weights.
        target: The side that needs them.
        twins: What the user calls the source's twin and the target's.
        output: The mapping file to write.
        layers: The layer policy.
        device: Where the models of full size are built; twins are built with real tensors.
        allow_untraced: Whether names and shapes alone will do where a model cannot be traced.
        quiet: Whether to show no progress.

    Raises:
        AutomatchError: A model, a twin, its inputs or the output cannot be used, or the matching refused.
    """
    writable(output)
    small = options(*twins)
    sides = request("source", *source, device), request("target", *target, device)
    with progress(quiet) as stage, without_torch_logs():
        stage("building the models")
        (large, large_inputs), (new, new_inputs) = map(make, sides)
        try:
            mapping = match(
                large,
                new,
                source_inputs=large_inputs,
                target_inputs=new_inputs,
                layers=layers,
                allow_untraced=allow_untraced,
                progress=stage,
                **small,
            )
        except InputsError as error:
            raise InputsError(f"{error}\n{INPUTS_HELP}") from error
        mapping.save(output)
    show([*summary(mapping.record), f"\nwrote {output}"])


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
    for which, reference in (("source", source), ("target", target)):
        factory = _factory(which, reference)
        inputs = beside(factory)
        found[f"{which}_twin"] = _Twin(factory)
        found[f"{which}_twin_inputs"] = from_factory(inputs, factory) if inputs else None
    return found


class _Twin:
    """A factory that the user named, to be called for a model with real tensors."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory

    def __call__(self) -> nn.Module:
        """The twin.

        Raises:
            ModelError: The factory fails, or makes no module.
        """
        made = build(self._factory, "cpu")
        if not isinstance(made, nn.Module):
            raise ModelError(f"{self._factory.reference}:{self._factory.name} makes no nn.Module; a twin is run")
        return made


def _factory(which: str, reference: str) -> Factory:
    factory = parse(reference)
    if isinstance(factory, Path):
        raise ModelError(f"--{which}-twin {reference} is a checkpoint; name a factory: a twin is code that is run")
    return factory
