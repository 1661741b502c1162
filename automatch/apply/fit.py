"""Whether what somebody holds is what a mapping can be applied to: one check for every way out, all findings at once.

`apply`, `convert`, `load_into` and what is built on them ask here. What is found is an error each time: a key that is
missing, another shape, another kind of numbers, numbers whose scale nothing reads, a tensor that the mapping never
knew, weights that are tied and hold different values.
"""

from __future__ import annotations

import warnings
from collections import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from itertools import count, pairwise

from automatch.core.expr import Expr, Source, source_leaves
from automatch.core.expr_rewrite import with_sources
from automatch.core.graph import Shape
from automatch.core.mapping import MappingRecord
from automatch.errors import MappingError, UnreadWarning, together

SHOWN = 20
"""How many problems an error lists; near names are sought for no more, because seeking them is slow."""

CANDIDATES = 500
"""Among how many keys a near name is sought."""

NARROW = ("float8", "float6", "float4")
"""How the names of dtypes begin that are mostly stored with scales beside them."""


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of a tensor without its numbers.

    Attributes:
        shape: Its shape.
        dtype: Its dtype, as torch prints it, without the prefix.
    """

    shape: Shape
    dtype: str


@dataclass(frozen=True, slots=True)
class Fit:
    """How a mapping reads what somebody holds.

    Attributes:
        names: For every source key that the mapping reads, the key under which it is held. The two differ only for
            tied weights, of which many files keep one name.
        unread: Held keys that the mapping never knew and that were allowed to be left out.
    """

    names: abc.Mapping[str, str]
    unread: tuple[str, ...] = ()


def fit(
    record: MappingRecord,
    found: abc.Mapping[str, Held],
    where: str,
    *,
    same: Callable[[str, str], bool],
    allow_unread: abc.Sequence[str] | None = (),
    own: Callable[[str], str] = str,
    quantised: str = "",
) -> Fit:
    """Hold what somebody has against a mapping.

    Args:
        record: The mapping.
        found: What is held, by key.
        where: What messages call it.
        same: Whether two held keys have the same values.
        allow_unread: Patterns (`ema.*`) of keys that may be left out though the mapping never knew them; None allows
            all, which the caller then tells of.
        own: How messages call a key, where it is stored under another name.
        quantised: What says that floats of 8 bits and less have scales, wherever these are; empty where nothing does.

    Raises:
        MappingError: It does not fit; all findings are listed.
    """
    needed = _needed(record)
    names, problems = _read(record, found, needed)
    problems += [f"{own(key)}: {why}" for key, why in _other_numbers(record, found, names)]
    problems += [f"{own(key)}: {why}" for key, why in _unscaled(record, found, names, quantised)]
    if not problems:  # values are compared where keys and shapes fit
        problems += list(_torn(record, found, names, same))
    known = {key for weight in record.source.weights for key in weight.keys} | needed.keys()
    strangers = [key for key in found if key not in known]
    allowed = ("*",) if allow_unread is None else allow_unread
    unread = [key for key in strangers if not any(fnmatchcase(own(key), pattern) for pattern in allowed)]
    problems += [f"{own(key)}: nothing reads it, and the mapping was made without it" for key in unread]
    if not problems:
        return Fit(names, tuple(map(own, strangers)))
    headline = _headline(record, found, where, len(problems), bool(unread))
    raise together(MappingError, headline, problems, SHOWN)


def warn_of(unread: abc.Sequence[str], where: str, stacklevel: int) -> None:
    """Warn of keys that nothing reads, if there are any; `stacklevel` as for `warnings.warn`, from here."""
    if unread:
        shown = ", ".join(unread[:SHOWN]) + (f" and {len(unread) - SHOWN} more" if len(unread) > SHOWN else "")
        warnings.warn(
            f"nothing reads {shown} of {where}, and the mapping was made without; left out. allow_unread=[...] says "
            "which may be, and makes all others an error",
            UnreadWarning,
            stacklevel=stacklevel,
        )


def readable_keys(record: MappingRecord, found: abc.Mapping[str, Shape], where: str) -> dict[str, str]:
    """For every source key that the mapping reads, the key under which it is held; nothing else is looked at.

    Args:
        record: The mapping.
        found: Keys and shapes.
        where: What messages call them.

    Raises:
        MappingError: Keys are missing or have other shapes; all of them are listed.
    """
    held = {key: Held(shape, "") for key, shape in found.items()}
    names, problems = _read(record, held, _needed(record))
    if problems:
        raise together(MappingError, _headline(record, held, where, len(problems), False), problems, SHOWN)
    return names


def _headline(record: MappingRecord, found: abc.Mapping[str, Held], where: str, count: int, unread: bool) -> str:
    source = record.source.name or "the source"
    if _is_converted(record, found):
        return (
            f"{where} has the keys and shapes of {record.target.name or 'the target'}, and not those of {source}: it "
            f"looks converted already; use it as it is. {count} weights do not fit:"
        )
    advice = " What nothing reads is left out where allow_unread (--allow-unread PATTERN) names it." if unread else ""
    return (
        f"{where} does not fit the mapping of {source}; give the checkpoint that was matched, or match again.{advice} "
        f"{count} of its weights:"
    )


def _is_converted(record: MappingRecord, found: abc.Mapping[str, Held]) -> bool:
    """Whether all that the mapping makes is there, in the shapes that it makes, and something that it reads is not."""
    made = {entry.target: entry.shape for entry in record.entries if entry.expr is not None}
    there = all(key in found and found[key].shape == shape for key, shape in made.items())
    return there and any(key not in found or found[key].shape != shape for key, (shape, _) in _needed(record).items())


def _read(
    record: MappingRecord, found: abc.Mapping[str, Held], needed: abc.Mapping[str, tuple[Shape, str]]
) -> tuple[dict[str, str], list[str]]:
    """Under which key each needed one is held; and those that are missing or have other shapes."""
    ties = {key: weight.keys for weight in record.source.weights for key in weight.keys}
    names: dict[str, str] = {}
    problems: list[str] = []
    spare = [name for name in found if name not in needed]
    for key, (shape, target) in needed.items():
        held = next((name for name in (key, *ties.get(key, ())) if name in found), None)
        if held is None:
            hint = _near(key, spare) if len(problems) < SHOWN else ""
            problems.append(f"{key}: missing, needed for {target}{hint}")
        elif found[held].shape != shape:
            problems.append(f"{held}: shape {list(found[held].shape)}, but the mapping was made for {list(shape)}")
        else:
            names[key] = held
    return names, problems


def _needed(record: MappingRecord) -> dict[str, tuple[Shape, str]]:
    """Source keys in order of first use, each with its shape and the first target that wants it."""
    needed: dict[str, tuple[Shape, str]] = {}
    for entry in record.entries:
        for leaf in () if entry.expr is None else source_leaves(entry.expr):
            needed.setdefault(leaf.key, (leaf.shape, entry.target))
    return needed


def _near(key: str, spare: list[str]) -> str:
    """What is there instead, if one of the keys that nobody reads looks like it."""
    same_leaf = [name for name in spare if name.rsplit(".", 1)[-1] == key.rsplit(".", 1)[-1]]
    near = get_close_matches(key, same_leaf[:CANDIDATES], n=1)
    return f" (there is {near[0]})" if near else ""


def _other_numbers(
    record: MappingRecord, found: abc.Mapping[str, Held], names: abc.Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Whole numbers where the mapping was made for floating ones are no weights: quantised, or another tensor."""
    matched = {key: weight.dtype for weight in record.source.weights for key in weight.keys}
    for key, name in names.items():
        if key in matched and _kind(matched[key]) != _kind(found[name].dtype):
            yield (
                name,
                f"{found[name].dtype}, but the mapping was made for {matched[key]}",
            )


def _kind(dtype: str) -> str:
    """Which numbers a dtype holds; truth values count as whole ones, as which old files have them."""
    kinds = ("floating", ("float", "bfloat")), ("complex", ("complex",)), ("whole", ("int", "uint", "bool"))
    return next((kind for kind, starts in kinds if dtype.startswith(starts)), dtype)


def _unscaled(
    record: MappingRecord, found: abc.Mapping[str, Held], names: abc.Mapping[str, str], quantised: str
) -> Iterator[tuple[str, str]]:
    """Floats of 8 bits and less that are read without the scale beside them, and are no weights without it."""
    read = set(names.values())
    scales: dict[str, list[str]] = {}
    for key in found:
        module, _, leaf = key.rpartition(".")
        if "scale" in leaf and key not in read:
            scales.setdefault(module, []).append(key)
    narrow = {key for weight in record.source.weights if weight.dtype.startswith(NARROW) for key in weight.keys}
    for key, name in names.items():
        if not found[name].dtype.startswith(NARROW):
            continue
        module, _, leaf = name.rpartition(".")
        beside = [scale for scale in scales.get(module, ()) if _scales(scale.rpartition(".")[2], leaf)]
        if beside:
            yield name, f"{found[name].dtype} with a scale in {beside[0]}, which the mapping does not read"
        elif quantised and key not in narrow:
            yield name, f"{found[name].dtype}, which {quantised} says is quantised, and its scale is not there"


def _scales(scale: str, leaf: str) -> bool:
    """Whether a tensor's name says that it scales another: `weight_scale_inv`, `scale`, `scale_weight`, `w1_scales`."""
    of = scale.replace("scales", "").replace("scale", "").replace("_inv", "").strip("_")
    return of in ("", leaf, "weight") or leaf.startswith(of)


def _torn(
    record: MappingRecord,
    found: abc.Mapping[str, Held],
    names: abc.Mapping[str, str],
    same: Callable[[str, str], bool],
) -> Iterator[str]:
    """Weights that are one weight in a model, and hold different values here."""
    for weight in record.source.weights:
        held = [key for key in weight.keys if key in found]
        read = any(key in names for key in weight.keys)
        torn = [pair for pair in pairwise(held) if read and not _alike(found, *pair, same)]
        yield from (f"{one} and {other}: one weight in the source, and different values here" for one, other in torn)
    exprs = {entry.target: entry.expr for entry in record.entries}
    for weight in record.target.weights:
        made = [(key, exprs[key]) for key in weight.keys if exprs.get(key) is not None]
        for (one, first), (other, second) in pairwise(made):
            leaves = _differing(first, second)  # type: ignore[arg-type]
            if leaves is None or not all(_alike(found, names[a], names[b], same) for a, b in leaves):
                yield f"{one} and {other}: tied in the target, and made of different values"


def _alike(found: abc.Mapping[str, Held], one: str, other: str, same: Callable[[str, str], bool]) -> bool:
    return one == other or (found[one] == found[other] and same(one, other))


def _differing(one: Expr, other: Expr) -> list[tuple[str, str]] | None:
    """The source keys in which two expressions differ; None where they differ in more."""
    ours, theirs = ([leaf.key for leaf in source_leaves(expr)] for expr in (one, other))
    if len(ours) != len(theirs):
        return None
    return list(zip(ours, theirs, strict=True)) if _bare(one) == _bare(other) else None


def _bare(expr: Expr) -> Expr:
    """An expression whose sources are called by their place in it."""
    places = count()
    return with_sources(expr, lambda leaf: Source(str(next(places)), leaf.shape))
