"""One checkpoint file to another."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from automatch.apply.fill import compute
from automatch.apply.fit import readable_keys
from automatch.core.files import replacing
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_file import MappingLike, as_record
from automatch.errors import CheckpointError, MappingError


def convert(checkpoint: str | os.PathLike[str], mapping: MappingLike, out: str | os.PathLike[str]) -> None:
    """Make a safetensors file for the target from one for the source.

    Source tensors are read one target weight at a time; the output is held in memory until it is written. It appears
    under its name only when it is complete, with the weights that the mapping determines, tied ones written once a
    key, and `{"format": "pt"}` as metadata.

    Args:
        checkpoint: A safetensors file that holds the source's weights.
        mapping: The mapping, or the path of its file.
        out: The file to write; one that is there already is replaced.

    Raises:
        CheckpointError: The checkpoint is not one safetensors file, or `out` cannot be written.
        MappingError: The checkpoint lacks keys, or has them in other shapes (all are listed); nothing is written.
    """
    record, source = as_record(mapping), Path(checkpoint)
    if all(entry.expr is None for entry in record.entries):
        raise MappingError("the mapping determines no weight of the target; there is nothing to write")
    _refuse_what_is_no_file(source)
    if source.resolve() == Path(out).resolve():
        raise CheckpointError(f"{out} is the checkpoint itself; name another file")
    # Before the work, so that a name that cannot be written does not cost the conversion first.
    with replacing(out, CheckpointError) as temporary:
        _save(_converted(source, record), temporary, Path(out))


def _converted(source: Path, record: MappingRecord) -> dict[str, Tensor]:
    try:
        with safe_open(source, framework="pt", device="cpu") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - not a dict
            names = readable_keys(record, found, str(source))
            return {
                entry.target: compute(entry, entry.expr, lambda key: file.get_tensor(names[key]), torch.device("cpu"))
                for entry in record.entries
                if entry.expr is not None
            }
    except OSError as error:
        raise CheckpointError(f"{source} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"{source} is not a whole safetensors file ({error}); download or save it again, or load another format "
            "with torch and use mapping.apply"
        ) from error


def _save(tensors: dict[str, Tensor], temporary: Path, out: Path) -> None:
    try:
        save_file(tensors, temporary, metadata={"format": "pt"})
    except SafetensorError as error:
        # safetensors reports a full disk this way, not as an OSError.
        raise CheckpointError(f"{out} cannot be written: {error}; nothing was changed") from error


def _refuse_what_is_no_file(source: Path) -> None:
    if source.is_dir():
        raise CheckpointError(f"{source} is a folder; name the one safetensors file to convert")
    if not source.is_file():
        raise CheckpointError(f"{source}: there is no such file; name a safetensors file")
