"""One file that `torch.save` wrote; nothing in it is executed, and tensors stay on disk where the format allows it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from automatch.core.graph import Weight
from automatch.errors import CheckpointError
from automatch.trace.weights import of_tensors

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"


def looks_like(head: bytes) -> bool:
    """Whether a file that begins so can be from `torch.save`: a zip archive, or a pickle of old."""
    return head.startswith((_ZIP, _PICKLE))


def shapes(path: Path) -> tuple[Weight, ...]:
    """The file's entries in the order in which they were saved; tied tensors become aliases.

    A file of the old format, one stream, does not tell which of its tensors are tied unless it is loaded whole.

    Raises:
        CheckpointError: The file is damaged, holds more than tensors and containers, or no one state dict.
    """
    return of_tensors(_state_dict(path, _load(path, loading=False))).weights


def tensors(path: Path) -> dict[str, torch.Tensor]:
    """The file's tensors in the order in which they were saved.

    Raises:
        CheckpointError: As for `shapes`.
    """
    return _tensors_in(_state_dict(path, _load(path, loading=True)))


def _load(path: Path, *, loading: bool) -> object:
    with path.open("rb") as file:
        mappable = file.read(len(_ZIP)) == _ZIP
    # Mapped tensors stay on disk and keep their ties, which the meta device would lose.
    device = "cpu" if mappable or loading else "meta"
    try:
        with warnings.catch_warnings():
            # Other tools write other pickle protocols; what comes of that, the result or the exception says.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location=device, weights_only=True, mmap=mappable)
    except Exception as error:  # a damaged stream makes the unpickler raise whatever it stumbles over
        raise _refusal(path, error) from error


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """The sentence of torch's long explanation that names the thing, and what to do."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = next((line for line in lines if "GLOBAL" in line), None)
    if named is not None:
        return CheckpointError(
            f"{path}: this file holds Python objects besides tensors, and loading them could run code: "
            f"{named.rstrip('.')}.\nNext: load it yourself where you trust it, and save its state dict alone."
        )
    reason = lines[0].rstrip(".") if lines else type(error).__name__
    return CheckpointError(
        f"{path}: torch.load cannot read this file: {reason}.\nNext: fetch it again, or save the model's state dict."
    )


def _state_dict(path: Path, content: object) -> Mapping[str, object]:
    """The one mapping from names to tensors in a file: itself, or one entry among epochs and optimiser states."""
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"{path}: this file holds a {type(content).__name__}, not a state dict.\nNext: save model.state_dict()."
        )
    nested = {str(key): value for key, value in content.items() if isinstance(value, Mapping) and _tensors_in(value)}
    direct = _tensors_in(content)
    if direct and not (nested and all(tensor.dim() == 0 for tensor in direct.values())):
        return content
    if len(nested) == 1:
        return next(iter(nested.values()))
    if nested:
        names = ", ".join(map(repr, nested))
        raise CheckpointError(
            f"{path}: this file holds several state dicts: {names}.\n"
            "Next: load the one you mean, torch.load(path, weights_only=True)[name], and pass that."
        )
    names = ", ".join(map(repr, list(content)[:5])) or "nothing"
    raise CheckpointError(
        f"{path}: no entry of this file is a state dict (found: {names}).\nNext: save model.state_dict()."
    )


def _tensors_in(mapping: Mapping[Any, Any]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in mapping.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
