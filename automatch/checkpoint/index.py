"""Which files of a folder make a checkpoint: an index of shards, numbered shards without one, or a single file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath

from automatch.errors import CheckpointError, together

NEXT = (
    "Next: pass a .safetensors, .pt, .pth or .bin file, a *.safetensors.index.json, a folder that holds one, or the "
    "folder of a torch distributed checkpoint."
)
INDEX = ".index.json"

_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_NUMBERED = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")

USUAL = ("model", "diffusion_pytorch_model", "pytorch_model")
"""What libraries call the weights of a folder."""


@dataclass(frozen=True, slots=True)
class Index:
    """Shards, and which of them holds which key.

    Attributes:
        path: The index, or the folder where there is none.
        shards: The files, by the names that errors call them.
        weight_map: The shard of every key; None where only the shards themselves say.
        notes: What a user should know of it.
    """

    path: Path
    shards: Mapping[str, Path]
    weight_map: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()


def find(path: Path) -> Path | Index:
    """The one file or the shards that a path means.

    Raises:
        CheckpointError: There is nothing at the path, or not one checkpoint; or its index is damaged, points outside
            its folder, or names files that are missing.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise CheckpointError(f"{path}: there is no such file or folder.\n{NEXT}")
    if not path.is_file():
        raise CheckpointError(f"{path}: this is neither a file nor a folder.\n{NEXT}")
    return _read_index(path) if path.name.endswith(INDEX) else path


def stays_inside(name: str) -> bool:
    r"""Whether a name from a file someone else wrote stays in the folder, on any system.

    Links are another matter: whoever put one into the folder meant it, as the cache of `huggingface_hub` does.

    Example:
        >>> stays_inside("model.safetensors"), stays_inside("../model.safetensors"), stays_inside(r"C:\model")
        (True, False, False)
    """
    path = PureWindowsPath(name)  # also understands forward slashes
    inside = bool(path.parts) and not path.drive and not path.root and ".." not in path.parts
    return inside and "\0" not in name


def _in_folder(folder: Path) -> Path | Index:
    """The index of a folder, else its one safetensors file or its numbered shards, else its other checkpoint."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    indices = (f".safetensors{INDEX}", INDEX)
    kinds = [[file for file in files if file.name.endswith(ending)] for ending in indices]
    kinds += [[file for file in files if file.suffix in suffixes] for suffixes in (_SUFFIXES[:1], _SUFFIXES[1:])]
    candidates = _usual(next((kind for kind in kinds if kind), []))
    if len(candidates) == 1 and candidates[0].name.endswith(INDEX):
        return _read_index(candidates[0])
    if candidates and all(_NUMBERED.fullmatch(file.name) for file in candidates):
        return _numbered(folder, candidates)
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        names = ", ".join(file.name for file in files[:5]) or "nothing"
        raise CheckpointError(f"{folder}: this folder holds no checkpoint (found: {names}).\n{NEXT}")
    names = ", ".join(file.name for file in candidates)
    raise CheckpointError(f"{folder}: this folder holds several checkpoints ({names}).\nNext: name one of them.")


def _usual(candidates: list[Path]) -> list[Path]:
    """The one that libraries look for first, if it stands among others (half precision, training arguments)."""
    usual = [file for file in candidates if file.name.split(".", 1)[0] in USUAL and _is_plain(file)]
    return usual if len(usual) == 1 else candidates


def _is_plain(file: Path) -> bool:
    """Whether nothing stands between a name and its ending, as it does in `model.fp16.safetensors`."""
    return file.name.removesuffix(INDEX).count(".") == 1


def _numbered(folder: Path, files: list[Path]) -> Index:
    """Shards that their numbers make one checkpoint, though the index is missing."""
    found = [match for file in files if (match := _NUMBERED.fullmatch(file.name))]
    sets = {(match["stem"], match["count"], match["suffix"]) for match in found}
    if len(sets) > 1:
        names = ", ".join(file.name for file in files[:5])
        raise CheckpointError(f"{folder}: this folder holds several checkpoints ({names}).\nNext: name one of them.")
    stem, count, suffix = next(iter(sets))
    expected = [f"{stem}-{number:05}-of-{count}{suffix}" for number in range(1, int(count) + 1)]
    present = [file.name for file in files]
    missing = [f"{name}: missing" for name in sorted({*expected}.difference(present))]
    spare = sorted(set(present).difference(expected))
    index = f"{stem}{suffix}{INDEX}"
    if spare:
        headline = f"{folder}: the index {index} is missing, and these are not among shards 1 to {int(count)}:"
        raise _refusal(headline, spare, "move them elsewhere, or fetch the index")
    if missing:
        headline = f"{folder}: {len(missing)} of {len(expected)} shards:"
        raise _refusal(headline, missing, f"fetch these files, and the index {index}, which is missing too")
    note = f"the index {index} is missing; the {len(files)} numbered shards were taken for the whole checkpoint"
    return Index(folder, {file.name: file for file in files}, notes=(note,))


def _read_index(path: Path) -> Index:
    try:
        content = json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_Pairs)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: this index is not JSON ({error}).\nNext: fetch it again.") from error
    listed = dict(content).get("weight_map") if isinstance(content, _Pairs) else None
    if not isinstance(listed, _Pairs) or not listed:
        raise CheckpointError(f"{path}: this index has no 'weight_map' from keys to files.\nNext: fetch it again.")
    strange = [key for key, shard in listed if not isinstance(shard, str)]
    if strange:
        raise _refusal(f"{path}: the index names no file for these keys:", strange, "fetch the index again")
    weight_map = _unambiguous(path, [(key, str(shard)) for key, shard in listed])
    names = dict.fromkeys(weight_map.values())
    outside = sorted(name for name in names if not stays_inside(name))
    if outside:
        headline = f"{path}: the index points outside its folder, which is refused:"
        raise _refusal(headline, outside, "fetch the checkpoint from where you trust it")
    shards = {name: path.parent / name for name in names}
    missing = [f"{name}: missing" for name, file in shards.items() if not file.is_file()]
    if missing:
        headline = f"{path}: {len(missing)} of {len(shards)} shards:"
        raise _refusal(headline, missing, "fetch these files into the index's folder")
    return Index(path, shards, weight_map)


class _Pairs(list[tuple[str, object]]):
    """A JSON object whose keys may be said twice."""


def _unambiguous(path: Path, pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    weight_map: dict[str, str] = {}
    problems = []
    for key, shard in pairs:
        if weight_map.setdefault(key, shard) != shard:
            problems.append(f"{key}: in {weight_map[key]} and in {shard}")
    if problems:
        raise _refusal(f"{path}: the index places keys in two shards:", problems, "fetch the index again")
    return weight_map


def _refusal(headline: str, problems: Sequence[str], next_step: str) -> CheckpointError:
    return CheckpointError(f"{together(CheckpointError, headline, problems)}\nNext: {next_step}.")
