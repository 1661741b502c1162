"""Keys collapsed to patterns: `blocks.0.norm.weight`, `blocks.1.norm.weight` ... are one `blocks.{}.norm.weight`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

from automatch.align.names.vocabulary import HOLE, vocabulary
from automatch.core.graph import Shape, Weight

Path: TypeAlias = tuple[str, ...]
Index: TypeAlias = tuple[int, ...]
PARAMETRIZED = {"original0": "g", "original1": "v"}
"""What `torch.nn.utils.parametrizations.weight_norm` keeps, under the names that its predecessor gave it."""
FACTORS = ("weight_g", "weight_v")
"""What weight normalisation makes a weight of: its lengths and its directions."""
ALIKE = 0.5
"""Share of equal suffixes (name and shape) from which neighbouring numbers count as repeats of one block."""
LARGE = 5
"""Suffixes from which it is the share of the smaller block that counts: layers may have parts that others lack."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """Weights whose keys differ only in the numbers of repeated blocks.

    Attributes:
        path: Components of the key, without those that all keys of the side share (`shared_prefix`); `{}` for the
            number of a repeated block.
        module: The path of the module that owns the weight (`in_proj_weight` belongs to `in_proj`).
        kind: `"weight"` or `"bias"`; else the parameter's own name (`"running_mean"`, `"cls_token"`).
        members: The weights, by their block numbers.
        shape: The commonest shape among them.
        position: Place of the first of them in the state dict.
        runs: Place of the first operator that reads the first of them; None where there is no code.
    """

    path: Path
    module: Path
    kind: str
    members: tuple[tuple[Index, Weight], ...]
    shape: Shape
    position: int
    runs: int | None = None

    @property
    def chains(self) -> tuple[Path, ...]:
        """The repeated blocks the pattern lies in, outermost first, each as its path up to the number."""
        return tuple(self.path[: at + 1] for at, part in enumerate(self.path) if part == HOLE)


_Entry: TypeAlias = tuple[Index, Path, Weight, int]


def shared_prefix(weights: Sequence[Weight]) -> int:
    """How many leading components all keys share, short of numbers and of their last component."""
    paths = [weight.name.split(".") for weight in weights]
    if len(paths) < 2:
        return 0
    first, last = min(paths), max(paths)
    shortest = min(map(len, paths)) - 1
    return next((at for at in range(shortest) if first[at] != last[at] or first[at].isdecimal()), shortest)


def collapse(
    weights: Sequence[Weight], skip: int = 0, chains: bool = True, runs: Mapping[str, int] | None = None
) -> tuple[Pattern, ...]:
    """The patterns of a side, in state-dict order.

    Args:
        weights: The side's weights.
        skip: How many leading components of every key to leave out.
        chains: False keeps every number, so that every weight is a pattern of its own.
        runs: When weights run, by their names, where that is known.

    Example:
        >>> keys = ["net.0.a.weight", "net.1.a.weight", "net.head.weight"]
        >>> [".".join(p.path) for p in collapse([Weight(key, (4, 4), "float32") for key in keys])]
        ['net.{}.a.weight', 'net.head.weight']
    """
    entries: list[_Entry] = [((), tuple(w.name.split(".")[skip:]), w, at) for at, w in enumerate(weights)]
    found = sorted(_walk((), entries, chains), key=lambda pattern: pattern.position)
    found = [replace(pattern, runs=(runs or {}).get(pattern.members[0][1].name)) for pattern in found]
    parents = {pattern.module[:depth] for pattern in found for depth in range(len(pattern.module))}
    return tuple(_by_its_own_name(pattern) if pattern.module in parents else pattern for pattern in found)


def _by_its_own_name(pattern: Pattern) -> Pattern:
    """A parameter beside modules: a `gamma` there scales the block and is no norm's weight."""
    last = pattern.path[-1]
    renamed = pattern.module == pattern.path[:-1] and pattern.kind != last
    return replace(pattern, kind=last) if renamed else pattern


def depths(patterns: Iterable[Pattern]) -> dict[Path, tuple[int, ...]]:
    """The block numbers that occur in every chain, ascending."""
    numbers: dict[Path, set[int]] = {}
    for pattern in patterns:
        for level, chain in enumerate(pattern.chains):
            numbers.setdefault(chain, set()).update(index[level] for index, _ in pattern.members)
    return {chain: tuple(sorted(found)) for chain, found in numbers.items()}


def owner(path: Path) -> tuple[Path, str]:
    """The module that owns a parameter, and what kind of parameter it is.

    Example:
        >>> owner(("attn", "in_proj_weight")), owner(("norm", "gamma")), owner(("cls_token",))
        ((('attn', 'in_proj'), 'weight'), (('norm',), 'weight'), ((), 'cls_token'))
        >>> owner(("conv", "parametrizations", "weight", "original0"))
        (('conv',), 'weight_g')
    """
    *module, last = path
    if module[-2:-1] == ["parametrizations"] and last in PARAMETRIZED:
        return tuple(module[:-2]), f"{module[-1]}_{PARAMETRIZED[last]}"
    kinds = vocabulary().kinds
    if last in kinds:
        return tuple(module), kinds[last]
    name, _, kind = last.rpartition("_")
    if name and kind in ("weight", "bias"):
        return (*module, name), kind
    return tuple(module), last


def _walk(prefix: Path, entries: list[_Entry], chains: bool) -> list[Pattern]:
    leaves = [entry for entry in entries if not entry[1]]
    patterns = [_pattern(prefix, leaves)] if leaves else []
    children: dict[str, list[_Entry]] = {}
    for index, rest, weight, at in entries:
        if rest:
            children.setdefault(rest[0], []).append((index, rest[1:], weight, at))
    numbered = {int(name): name for name in children if name.isdecimal()}
    if chains and _is_chain([children[numbered[number]] for number in sorted(numbered)], sorted(numbered)):
        merged = [
            ((*index, number), rest, weight, at)
            for number in sorted(numbered)
            for index, rest, weight, at in children.pop(numbered[number])
        ]
        patterns += _walk((*prefix, HOLE), merged, chains)
    for name, below in children.items():
        patterns += _walk((*prefix, name), below, chains)
    return patterns


def _is_chain(blocks: list[list[_Entry]], numbers: list[int]) -> bool:
    """Whether numbers without a gap hold blocks with, by and large, the same suffixes and shapes."""
    if len(blocks) < 2 or numbers[-1] - numbers[0] != len(numbers) - 1:
        return False
    alike = [_alike(a, b) for a, b in pairwise(map(_suffixes, blocks))]
    return sum(alike) / len(alike) >= ALIKE


def _suffixes(block: list[_Entry]) -> dict[Path, Shape]:
    """What a block holds; of lists inside it one member, so that a long list counts no more than a short one."""
    found: dict[Path, Shape] = {}
    for _, rest, weight, _ in block:
        inside = tuple(HOLE if part.isdecimal() and len(block) >= LARGE else part for part in rest)
        found.setdefault(inside, weight.shape)
    return found


def _alike(a: dict[Path, Shape], b: dict[Path, Shape]) -> float:
    """Share of two blocks' suffixes that are the same."""
    smaller = min(len(a), len(b))
    return len(a.items() & b.items()) / (smaller if smaller >= LARGE else len(a.keys() | b.keys()))


def _pattern(path: Path, entries: list[_Entry]) -> Pattern:
    module, kind = owner(path)
    members = tuple((index, weight) for index, _, weight, _ in entries)
    shape = Counter(weight.shape for _, weight in members).most_common(1)[0][0]
    return Pattern(path, module, kind, members, shape, min(at for *_, at in entries))
