"""The header of a safetensors file, read and written: what is in the file, and where. No tensor is touched.

The reader accepts what the `safetensors` library accepts, with these exceptions, all stricter: a key that is said
twice, anywhere in the header; a tensor described by a list, or a dtype by an object, which the library's parser lets
pass; a further field of a tensor that is not a plain value; a size of 2**63 or more; floats of 4 and 6 bits whose last
axis does not fill whole bytes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Any

from automatch.checkpoint.catalog import Stored
from automatch.checkpoint.dtypes import BY_CODE, BY_NAME, RANK, Dtype
from automatch.core.graph import Shape
from automatch.errors import CheckpointError, together

_LONGEST = 100_000_000  # bytes; the format's own limit
_LENGTH = 8  # bytes before the header that say how long it is
_METADATA = "__metadata__"
_FIELDS = ("dtype", "shape", "data_offsets")
_TOO_LARGE = 2**63  # no torch tensor counts so far
_OVERFLOW = 2**64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Header:
    """What a safetensors file says about itself.

    Attributes:
        entries: Its tensors in the order of their bytes.
        metadata: Its free text, empty where it has none.
    """

    entries: tuple[Stored, ...]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Told:
    """One tensor as the header describes it."""

    name: str
    dtype: Dtype
    shape: Shape
    begin: int
    end: int


def looks_like(head: bytes) -> bool:
    """Whether a file that begins so can be a safetensors file: a length, then a JSON object."""
    return head[_LENGTH:].lstrip(b" \t\r\n").startswith(b"{")


def is_surely(head: bytes) -> bool:
    r"""Whether a file that begins so is a safetensors file and nothing else: its length is one that the format allows.

    No zip archive has, and no pickle, four zeros and an opening brace in these places.

    Example:
        >>> is_surely(b"\x80\x02\0\0\0\0\0\0{"), is_surely(b"\x80\x02}q\0X\x01\0\0{")
        (True, False)
    """
    return looks_like(head) and head[4:_LENGTH] == bytes(4)


def read_header(path: Path) -> Header:
    """The header of a file, checked against the file's size down to the last byte.

    Args:
        path: A safetensors file.

    Raises:
        CheckpointError: The file is cut short, or its header is damaged or contradicts itself.
        OSError: The file cannot be read.
    """
    try:
        raw, size = _raw(path)
        content = _parsed(raw)
        metadata = _metadata(content.pop(_METADATA, None))
        tensors = sorted((_tensor(*item) for item in content.items()), key=lambda tensor: (tensor.begin, tensor.end))
        start = _LENGTH + len(raw)
        _check_layout(tensors, size - start)
    except (ValueError, RecursionError) as error:
        reason = "its header is nested too deeply" if isinstance(error, RecursionError) else error
        raise CheckpointError(
            f"{path}: this safetensors file is cut short or damaged: {reason}.\nNext: fetch or save it again."
        ) from error
    return Header(
        tuple(Stored(told.name, _ours(told), told.dtype.name, path, start + told.begin) for told in tensors), metadata
    )


def encode_header(
    tensors: Sequence[tuple[str, str, Shape]], metadata: Mapping[str, str] | None = None
) -> tuple[bytes, dict[str, int]]:
    """The first bytes of a safetensors file, and where in the file each tensor belongs.

    Tensors are laid out as `safetensors.torch.save_file` lays them out: widest dtype first, then by name. Metadata is
    written in alphabetic order.

    Args:
        tensors: Key, dtype as torch prints it, and shape as torch counts it, in any order.
        metadata: Free text for the header; None for none.

    Returns:
        The length and the header, padded to a multiple of 8 bytes; and every key's byte offset from the start of the
        file.

    Raises:
        CheckpointError: The format cannot hold a dtype, a key is there twice or is no text, or there are too many.

    Example:
        >>> head, offsets = encode_header([("b", "bool", (3,)), ("w", "float32", (2, 2))])
        >>> head[8:], offsets
        (b'{"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"b":{"dtype":"BOOL","shape":[3],"data_offsets":[16,19]}}       ', {'w': 128, 'b': 144})
    """  # noqa: E501 - the header is one line
    _refuse_unwritable(tensors)
    content: dict[str, object] = {} if metadata is None else {_METADATA: dict(sorted(metadata.items()))}
    ends: dict[str, int] = {}
    end = 0
    for key, name, shape in sorted(tensors, key=lambda tensor: (RANK[tensor[1]], tensor[0])):
        theirs, dtype = _theirs(BY_NAME[name], shape), BY_NAME[name]
        begin, end = end, end + _nbytes(dtype, theirs)
        content[key] = {"dtype": dtype.code, "shape": list(theirs), "data_offsets": [begin, end]}
        ends[key] = begin
    # As the library's own writer has it: compact, and nothing escaped that need not be.
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    if len(text) > _LONGEST:
        raise CheckpointError(f"a header of {len(text)} bytes is too long for safetensors.\nNext: write more shards.")
    start = _LENGTH + len(text)
    return len(text).to_bytes(_LENGTH, "little") + text, {key: start + begin for key, begin in ends.items()}


def _raw(path: Path) -> tuple[bytes, int]:
    """The header's bytes and the file's size."""
    size = path.stat().st_size
    if size < _LENGTH:
        raise ValueError(f"it has {size} bytes, less than a header's length")
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH), "little")
        if length > _LONGEST:
            raise ValueError(f"its header claims {length} bytes, more than the {_LONGEST} that the format allows")
        if size < _LENGTH + length:
            raise ValueError(f"it has {size} bytes, its header alone claims {length}")
        return file.read(length), size


def _parsed(raw: bytes) -> dict[str, Any]:
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"its header is not UTF-8 ({error.reason} at byte {error.start})") from error
    try:
        content = json.loads(
            text, object_pairs_hook=_once, parse_int=_integer, parse_float=_finite, parse_constant=_no_number
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"its header is not JSON ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"its header is JSON, but no object ({_short(content)})")
    if _SURROGATE.search(text):
        _refuse_halves(content)
    return content


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        key, times = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"its header says {_short(key)} {times} times")
    return content


def _integer(text: str) -> int | float:
    """Whole numbers as the format's own parser has them: -0 and what 64 bits cannot hold are not whole."""
    return _finite(text) if text == "-0" or len(text) > len(str(_OVERFLOW)) else int(text)


def _finite(text: str) -> float:
    value = float(text)
    if isinf(value):
        raise ValueError(f"its header holds a number out of range ({_short(text)})")
    return value


def _no_number(text: str) -> float:
    raise ValueError(f"its header is not JSON ({text} is no number)")


def _refuse_halves(content: dict[str, Any]) -> None:
    """Python reads half of an escaped pair without complaint; no text can hold it."""
    try:
        json.dumps(content, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"its header is not Unicode ({_short(error.object[error.start])} stands alone)") from error


def _metadata(told: object) -> dict[str, str]:
    if told is None:
        return {}
    if not isinstance(told, dict):
        raise ValueError(f"its {_METADATA} is not an object ({_short(told)})")
    strange = next((key for key, value in told.items() if not isinstance(value, str)), None)
    if strange is not None:
        raise ValueError(f"its {_METADATA} holds {_short(told[strange])} for {_short(strange)}, which is not text")
    return told


def _tensor(name: str, told: object) -> _Told:
    if not isinstance(told, dict) or any(field not in told for field in _FIELDS):
        raise ValueError(f"{name}: {_short(told)} does not say its {', '.join(_FIELDS)}")
    if any(isinstance(value, (dict, list)) for field, value in told.items() if field not in _FIELDS):
        raise ValueError(f"{name}: {_short(told)} says more than the format knows")
    code, shape, offsets = (told[field] for field in _FIELDS)
    dtype = BY_CODE.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise ValueError(f"{name}: there is no dtype {_short(code)}")
    if not _are_counts(shape):
        raise ValueError(f"{name}: {_short(shape)} is not a shape")
    if not _are_counts(offsets) or len(offsets) != 2 or offsets[0] > offsets[1]:
        raise ValueError(f"{name}: {_short(offsets)} does not say where its bytes begin and end")
    _check_length(name, dtype, shape, offsets)
    return _Told(name, dtype, tuple(shape), *offsets)


def _are_counts(told: object) -> bool:
    # A bool is an int to Python, not to the format.
    return isinstance(told, list) and all(type(size) is int and 0 <= size < _TOO_LARGE for size in told)


def _check_length(name: str, dtype: Dtype, shape: list[int], offsets: list[int]) -> None:
    count = 1
    for size in shape:
        count *= size
        if count >= _OVERFLOW:
            raise ValueError(f"{name}: shape {_short(shape)} has more entries than can be counted")
    (theirs, ours), length = dtype.packed, offsets[1] - offsets[0]
    if count * dtype.size * ours != length * theirs:
        needed = count * dtype.size * ours // theirs
        raise ValueError(f"{name}: {dtype.code} of shape {_short(shape)} takes {needed} bytes, it is given {length}")
    if theirs > 1 and (not shape or shape[-1] % theirs):
        raise ValueError(f"{name}: {dtype.code} of shape {_short(shape)} does not fill whole bytes in its last axis")


def _check_layout(tensors: Sequence[_Told], room: int) -> None:
    """Every byte behind the header belongs to exactly one tensor."""
    end, before = 0, ""
    for tensor in tensors:
        if tensor.begin < end:
            raise ValueError(f"{tensor.name}: begins at byte {tensor.begin}, overlapping {before}, which ends at {end}")
        if tensor.begin > end:
            raise ValueError(f"{tensor.name}: begins at byte {tensor.begin}, the bytes from {end} on belong to none")
        end, before = tensor.end, tensor.name
    if end != room:
        raise ValueError(f"it has {room} bytes behind its header, but its tensors take {end}")


def _ours(told: _Told) -> Shape:
    """The shape as torch counts it: bytes where an entry is narrower than a byte."""
    theirs, ours = told.dtype.packed
    return told.shape if theirs == ours else (*told.shape[:-1], told.shape[-1] // theirs * ours)


def _theirs(dtype: Dtype, shape: Shape) -> Shape:
    """The shape as the header counts it."""
    theirs, ours = dtype.packed
    return shape if theirs == ours else (*shape[:-1], shape[-1] // ours * theirs)


def _nbytes(dtype: Dtype, theirs: Shape) -> int:
    count = dtype.size * dtype.packed[1]
    for size in theirs:
        count *= size
    return count // dtype.packed[0]


def _refuse_unwritable(tensors: Sequence[tuple[str, str, Shape]]) -> None:
    times = Counter(key for key, _, _ in tensors)
    problems = [f"{key!r}: {times[key]} tensors of this name" for key in times if times[key] > 1]
    problems += [f"{key!r}: {problem}" for key, name, shape in tensors if (problem := _unwritable(key, name, shape))]
    if problems:
        raise together(CheckpointError, "these tensors cannot be written as safetensors:", problems)


def _unwritable(key: str, name: str, shape: Shape) -> str:
    """Why the format cannot hold a tensor; empty where it can."""
    if key == _METADATA:
        return "the format keeps this name for itself"
    if not key.isascii() and any("\ud800" <= character <= "\udfff" for character in key):
        return "this key is not Unicode"
    if name not in BY_NAME:
        return f"the format has no dtype {name}; cast it, or leave it out"
    theirs, ours = BY_NAME[name].packed
    if theirs != ours and (not shape or shape[-1] % ours):
        return f"{name} of shape {list(shape)} does not end in whole groups of {ours} bytes"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
