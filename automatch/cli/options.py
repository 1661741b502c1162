"""Options that several commands share, or that are many; cyclopts reads names, types and help from here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from automatch.cli.statuses import Requirement

Output = Annotated[Path, Parameter(name=["--output", "-o"])]
Maybe = Annotated[Path | None, Parameter(name=["--output", "-o"])]
Flag = Annotated[bool, Parameter(show_default=False)]
Shapes = Annotated[tuple[str, ...], Parameter(show_default=False)]
Run = Annotated[bool, Parameter(negative="--no-run")]
Checks = Annotated[bool, Parameter(negative="--no-checksums")]
Progress = Annotated[bool, Parameter(negative=["--no-progress", "--quiet"])]


@Parameter(name="*")
@dataclass(frozen=True)
class MatchOptions:
    """How `match` goes about it.

    Attributes:
        layers: Which source layer a target layer takes where their numbers differ: uniform, first, last, or a list of
            source layers such as 0,2,5.
        device: Where factories build. auto: on the CPU, with numbers, where both models can be run (at most 60 million
            numbers a side); else on meta, where size costs no memory and nothing is run.
        run: Run both models, which finds and proves exact conversions. Without it the verdict is "not run".
        budget_s: Seconds that running may take.
        new_rows: What rows of a vocabulary, and outputs for classes, begin as that only the target has: the mean of
            the source's, or zeros.
        require: What the exit status is to be 0 for. complete: every key of the target is mapped. agrees: both models
            were run and agree. proved: they do, and every weight was shown. A refuted mapping is 1 in any case.
        allow_untraced: Go on with names and shapes alone where a model cannot be traced.
        progress: Show progress on stderr; --quiet is another spelling of --no-progress.
    """

    layers: str = "uniform"
    device: Literal["auto", "meta", "cpu"] = "auto"
    run: Run = True
    budget_s: float | None = None
    new_rows: Literal["mean", "zeros"] = "mean"
    require: Requirement = "complete"
    allow_untraced: Flag = False
    progress: Progress = True


@Parameter(name="*")
@dataclass(frozen=True)
class ConvertOptions:
    """What `convert` and `apply` have in common.

    Attributes:
        dtype: Cast floating weights to this dtype, as torch names it (bfloat16).
        max_shard_size: Start a new file before this size (5GB, 500MB); folders take 50GB unless told otherwise.
        entry: The entry of a .pt, .pth or .bin file that holds the weights (ema), where there are several.
        tied: Write tensors that the target ties under each of their keys, as load_state_dict wants them, or once.
        name: What the names of files in a folder begin with; diffusers looks for diffusion_pytorch_model.
        allow_unread: A pattern (ema.*) of tensors that may be left out though the mapping never knew them. Repeatable.
        checksums: Hold the numbers of a .pt archive against the checksums in it.
        digests: Write a SHA-256 of every tensor into the files, for `verify`.
        format: safetensors, or dcp for a folder of torch.distributed.checkpoint.
        dry_run: Print what would be done, and write nothing.
        progress: Show progress on stderr; --quiet is another spelling of --no-progress.
    """

    dtype: str | None = None
    max_shard_size: str | None = None
    entry: str | None = None
    tied: Literal["each", "once"] = "each"
    name: str = "model"
    allow_unread: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    checksums: Checks = True
    digests: Flag = False
    format: Literal["safetensors", "dcp"] = "safetensors"
    dry_run: Flag = False
    progress: Progress = True


MATCH, CONVERT = MatchOptions(), ConvertOptions()
"""What the commands do where nothing is said."""
