"""One `.safetensors` file, read through its header; tensors stay on disk until they are used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from automatch.core.graph import Weight
from automatch.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

_LONGEST_HEADER = 100_000_000  # bytes; the format's own limit
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
}


def looks_like(head: bytes) -> bool:
    """Whether a file that begins so can be a safetensors file: a length, then a JSON object."""
    return head[8:9] == b"{"


def shapes(path: Path) -> tuple[Weight, ...]:
    """The file's entries in the order of their bytes.

    Raises:
        CheckpointError: The file is cut short, or its header is damaged.
    """
    _check_header(path)
    try:
        with safe_open(path, framework="np") as file:
            slices = [(key, file.get_slice(key)) for key in file.offset_keys()]
            weights = tuple(
                Weight(key, tuple(part.get_shape()), _DTYPES.get(part.get_dtype(), part.get_dtype().lower()))
                for key, part in slices
            )
    except SafetensorError as error:
        raise _damaged(path, error) from error
    if not weights:
        raise CheckpointError(f"{path}: this checkpoint holds no tensors.\nNext: save it again.")
    return weights


def tensors(path: Path) -> dict[str, Tensor]:
    """The file's tensors in the order of their bytes, mapped from disk.

    Raises:
        CheckpointError: As for `shapes`.
    """
    names = [weight.name for weight in shapes(path)]
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in names}


def _check_header(path: Path) -> None:
    """Tells what is wrong with a file that ends too early, in words that fit the usual cause."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if size < 8:
        raise _damaged(path, f"it has {size} bytes, less than a header's length")
    if length > _LONGEST_HEADER:
        raise _damaged(path, f"its header claims {length} bytes")
    if size < 8 + length:
        raise _damaged(path, f"it has {size} bytes, its header alone claims {length}")


def _damaged(path: Path, reason: object) -> CheckpointError:
    return CheckpointError(
        f"{path}: this safetensors file is cut short or damaged: {reason}.\nNext: fetch or save it again."
    )
