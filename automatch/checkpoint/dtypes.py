"""The dtypes that files know: torch's names, the codes of safetensors, and their sizes."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from automatch.core.graph import Shape


@dataclass(frozen=True, slots=True)
class Dtype:
    """One dtype.

    Attributes:
        name: As torch prints it, without the prefix (`"bfloat16"`); torch has none for floats of 6 bits.
        code: As a safetensors header writes it (`"BF16"`).
        size: Bytes an element. Of floats narrower than a byte, a byte counts as the element, as torch counts them.
        packed: How many of the header's elements, along the last axis, fill how many of ours: (2, 1) for floats of 4
            bits, (4, 3) for floats of 6 bits, else (1, 1).
    """

    name: str
    code: str
    size: int
    packed: tuple[int, int] = (1, 1)


ALL = (
    Dtype("uint64", "U64", 8),
    Dtype("int64", "I64", 8),
    Dtype("float64", "F64", 8),
    Dtype("complex64", "C64", 8),
    Dtype("float32", "F32", 4),
    Dtype("uint32", "U32", 4),
    Dtype("int32", "I32", 4),
    Dtype("bfloat16", "BF16", 2),
    Dtype("float16", "F16", 2),
    Dtype("uint16", "U16", 2),
    Dtype("int16", "I16", 2),
    Dtype("float8_e5m2fnuz", "F8_E5M2FNUZ", 1),
    Dtype("float8_e4m3fnuz", "F8_E4M3FNUZ", 1),
    Dtype("float8_e8m0fnu", "F8_E8M0", 1),
    Dtype("float8_e4m3fn", "F8_E4M3", 1),
    Dtype("float8_e5m2", "F8_E5M2", 1),
    Dtype("int8", "I8", 1),
    Dtype("uint8", "U8", 1),
    Dtype("float6_e3m2", "F6_E3M2", 1, packed=(4, 3)),
    Dtype("float6_e2m3", "F6_E2M3", 1, packed=(4, 3)),
    Dtype("float4_e2m1fn_x2", "F4", 1, packed=(2, 1)),
    Dtype("bool", "BOOL", 1),
)
"""Widest first, in the order in which `safetensors` lays out the tensors of a file."""

BY_NAME = {dtype.name: dtype for dtype in ALL}
BY_CODE = {dtype.code: dtype for dtype in ALL}
RANK = {dtype.name: place for place, dtype in enumerate(ALL)}


def dtype_name(dtype: object) -> str:
    """A dtype of torch (or a layout) as torch prints it, without the prefix.

    Example:
        >>> import torch
        >>> dtype_name(torch.bfloat16)
        'bfloat16'
    """
    return str(dtype).removeprefix("torch.")


def count_bytes(dtype: str, shape: Shape) -> int:
    """How many bytes a tensor takes.

    Example:
        >>> count_bytes("bfloat16", (2, 3))
        12
    """
    return prod(shape) * BY_NAME[dtype].size
