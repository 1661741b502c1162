"""Damaged safetensors files, judged by ours and by the library.

`python -m tests.checkpoint.fuzz --files 20000 --seed 0` runs a long campaign.

A file is made whole, then damaged in one to three ways: bytes flipped, cut or added, or its header edited as JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, deserialize, safe_open

from automatch.checkpoint.dtypes import ALL, BY_NAME
from automatch.checkpoint.safetensors_header import read_header
from automatch.errors import CheckpointError

# Where ours is stricter, as the head of `safetensors_header` says; each is a piece of the message.
STRICTER = (
    " times.",
    "does not say its dtype",
    "says more than the format knows",
    "there is no dtype {",
    "is not a shape",
    "does not fill whole bytes in its last axis",
)
_BIG = 2**63
# Without type annotations.
_DESERIALIZE: Callable[[bytes], list[tuple[str, dict[str, Any]]]] = deserialize
_NAMES = ("a", "b.weight", "ü", 'q"uote', "back\\slash", "\x01", "", "__metadata__", "😀")
_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 8, 1.0, 8.0, 1e300, _BIG - 1, _BIG, 2**64 - 1, 2**64, -(2**63), "F32", "f32"),
    *(
        "F4",
        "F6_E2M3",
        "C128",
        "",
        [],
        {},
        [0],
        [0, 8],
        [8, 0],
        [2, 2, 2],
        [0, 0],
        [-1, 0],
        [True, 8],
        [0.0, 8],
        ["0", 8],
    ),
    *(["0", 8], {"F32": None}, ["F32", [2], [0, 8]], [[[]]], {"a": {"b": []}}, [_BIG, 2, 0], [0, _BIG, 2], [2**64]),
)
_PIECES = (
    *' \t\n{}[],:"',
    *("\\ud800", "\\ud83d\\ude00", "-0", "-", "NaN", "Infinity", "1e999", "\x00", "\ufeff", "9" * 400),
)


def whole(draw: random.Random) -> tuple[dict[str, Any], bytes]:
    """A header that is right, and the bytes behind it."""
    content: dict[str, Any] = {}
    if draw.random() < 0.3:
        content["__metadata__"] = {"format": "pt"}
    end = 0
    for name in draw.sample(_NAMES[:-2], draw.randint(0, 4)):
        dtype = draw.choice(ALL)
        shape = [draw.randint(0, 4) for _ in range(draw.randint(0, 3))]
        if dtype.packed[0] > 1:
            shape = [*shape, dtype.packed[0] * draw.randint(0, 2)]
        count = dtype.size * dtype.packed[1]
        for size in shape:
            count *= size
        begin, end = end, end + count // dtype.packed[0]
        content[name] = {"dtype": dtype.code, "shape": shape, "data_offsets": [begin, end]}
    return content, draw.randbytes(end)


def damaged(draw: random.Random) -> bytes:
    """A file with up to three things wrong with it."""
    content, data = whole(draw)
    for _ in range(draw.randint(0, 2)):
        _edit(draw, content)
    text = json.dumps(content, ensure_ascii=draw.random() < 0.5)
    if draw.random() < 0.3:
        text = _edit_text(draw, text)
    if draw.random() < 0.1:
        data = _edit_bytes(draw, data)
    header = text.encode("utf-8", "surrogatepass")
    if draw.random() < 0.15:
        header = _edit_bytes(draw, header)
    length = len(header) if draw.random() < 0.95 else draw.choice([0, 1, len(header) - 1, len(header) + 1, 2**31, _BIG])
    file = max(length, 0).to_bytes(8, "little") + header + data
    return _edit_bytes(draw, file) if draw.random() < 0.1 else file


def verdict(path: Path) -> str:
    """What both say of a file, as one word; `wrong: ...` where they should agree and do not."""
    try:
        header = read_header(path)
    except CheckpointError as error:
        return _refused(path, str(error))
    try:
        with safe_open(path, framework="np") as file:
            metadata, order = file.metadata() or {}, list(file.offset_keys())
    except SafetensorError as error:
        return f"wrong: ours accepts it, the library says {error}"
    content = path.read_bytes()
    theirs = dict(_DESERIALIZE(content))
    if metadata != header.metadata or set(order) != set(theirs) or len(order) != len(header.entries):
        return "wrong: other keys or metadata"
    for block in header.entries:
        dtype, told = BY_NAME[block.dtype], theirs[block.name]
        wide, narrow = dtype.packed
        packed = tuple(told["shape"])
        shape = packed if wide == 1 else (*packed[:-1], packed[-1] // wide * narrow)
        data = content[block.offset : block.offset + block.nbytes]
        if (dtype.code, block.shape, data) != (told["dtype"], shape, bytes(told["data"])):
            return f"wrong: {block.name} is {told}"
    return "accepted"


def run(draw: random.Random, path: Path) -> str:
    """The verdict on one damaged file."""
    path.write_bytes(damaged(draw))
    return verdict(path)


def main() -> int:
    """Judge the files and print the totals; 1 where a file is judged wrongly."""
    parser = argparse.ArgumentParser(prog="python -m tests.checkpoint.fuzz", description=__doc__)
    parser.add_argument("--files", type=int, default=1000, help="how many files")
    parser.add_argument("--seed", type=int, default=0, help="the first file's seed; the next ones count up")
    arguments = parser.parse_args()
    counts = Counter[str]()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(arguments.seed, arguments.seed + arguments.files):
            found = run(random.Random(seed), Path(folder) / "model.safetensors")
            counts[found.partition(":")[0]] += 1
            if found.startswith("wrong"):
                sys.stdout.write(f"seed {seed}: {found}\n")
    sys.stdout.write(f"{arguments.files} files: {dict(sorted(counts.items()))}\n")
    return int(counts["wrong"] > 0)


def _refused(path: Path, message: str) -> str:
    try:
        with safe_open(path, framework="np"):
            pass
    except SafetensorError:
        return "refused"
    # The library reads it; then ours must have a reason that it gives for being stricter.
    return "stricter" if any(reason in message for reason in STRICTER) else f"wrong: only ours refuses it: {message}"


def _edit(draw: random.Random, content: dict[str, Any]) -> None:
    """One change somewhere in a header."""
    place: Any = content
    key: Any = draw.choice([*content, draw.choice(_NAMES)])
    while isinstance(place.get(key), dict) and place[key] and draw.random() < 0.8:
        place = place[key]
        key = draw.choice([*place, "extra"])
    held = place.get(key)
    if isinstance(held, list) and held and draw.random() < 0.7:
        held[draw.randrange(len(held))] = deepcopy(draw.choice([0, 1, 2, 4, 8, 16, *_VALUES]))
    elif draw.random() < 0.2:
        place.pop(key, None)
    else:
        place[key] = deepcopy(draw.choice(_VALUES))


def _edit_text(draw: random.Random, text: str) -> str:
    """One change that JSON does not survive, or only just."""
    at = draw.randrange(len(text) + 1)
    piece = draw.choice(_PIECES)
    edits = (
        text[:at] + piece + text[at:],
        text.replace(": 0", f": {piece}").replace("[0", f"[{piece}"),
        text.replace("}", ', "dtype": "F32"}', 1),
        text.replace("{", "{" + text[1:-1] + ",", 1),
    )
    return draw.choice(edits)


def _edit_bytes(draw: random.Random, content: bytes) -> bytes:
    """A byte flipped, or bytes cut off or added."""
    at = draw.randrange(len(content) + 1)
    how = draw.randrange(3)
    if how == 0:
        return content[:at]
    if how == 1:
        return content + draw.randbytes(draw.randint(1, 9))
    return content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]


if __name__ == "__main__":
    sys.exit(main())
