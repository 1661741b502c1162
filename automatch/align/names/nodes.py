"""What can be assigned: patterns, and virtual nodes for 2 to 4 sibling patterns that the other side may hold as one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.shapes import Fit, Widths, part_sizes, shape_fit
from automatch.align.names.vocabulary import HOLE, resemblance, role, tokens, vocabulary
from automatch.core.graph import Shape

LARGEST_FUSION = 4


@dataclass(frozen=True, slots=True)
class Node:
    """A pattern, or several that are joined along their first axis.

    Attributes:
        parts: The patterns, in order; None for a sibling's missing bias.
        path: Where it is; the siblings' names joined by `+`.
        module: Path of the owning module.
        kind: What parameter it is.
        lengths: Size of the parts' first axes (1 for a scalar); a missing bias has its weight's.
        names: Of a virtual node, what each part's module is called.
        usual: Whether the parts' order is one of the usual ones (`query, key, value`); True for a single pattern.
    """

    parts: tuple[Pattern | None, ...]
    path: Path
    module: Path
    kind: str
    lengths: tuple[int, ...]
    names: tuple[str, ...] = ()
    usual: bool = True

    @property
    def patterns(self) -> tuple[Pattern, ...]:
        """The parts that are there."""
        return tuple(part for part in self.parts if part is not None)

    @property
    def shape(self) -> Shape:
        """Shape of the first part that is there."""
        return self.patterns[0].shape

    @property
    def fused(self) -> bool:
        """Whether this is a virtual node."""
        return len(self.parts) > 1


def leaf_words(module: Path) -> tuple[str, ...]:
    """Words of the last component of a module's path that has words.

    Example:
        >>> leaf_words(("blocks", "{}", "ffn", "0"))
        ('ffn',)
    """
    return next((tokens(part) for part in reversed(module) if tokens(part)), ())


def single(patterns: Sequence[Pattern]) -> tuple[Node, ...]:
    """Every pattern as a node of its own."""
    return tuple(
        Node((pattern,), pattern.path, pattern.module, pattern.kind, lengths=(pattern.shape or (1,))[:1])
        for pattern in patterns
    )


def node_fit(source: Node, target: Node, widths: Widths) -> Fit:
    """How the shapes of two nodes fit; of a virtual one, every part."""
    if not source.fused and not target.fused:
        return shape_fit(source.shape, target.shape, widths)
    if (source.fused and target.fused) or not source.shape or len(source.shape) != len(target.shape):
        return Fit(0.0)
    if source.fused:
        old, new = source.lengths, part_sizes(source.lengths, target.shape[0], widths)
    else:
        old, new = part_sizes(target.lengths, source.shape[0], widths.reverse), target.lengths
    if len(old) != len(new):
        return Fit(0.0)
    rest = source.shape[1:], target.shape[1:]
    fits = [shape_fit((a, *rest[0]), (b, *rest[1]), widths) for a, b in zip(old, new, strict=True)]
    if any(fit.reading != "as stored" for fit in fits):
        return Fit(0.0)
    return Fit(sum(fit.score for fit in fits) / len(fits))


def in_order_of(node: Node, fused: Node) -> tuple[Node, bool]:
    """A virtual node with its parts in the order that the fused weight's name spells, and whether it spells one.

    Example:
        `in_order_of(q+k+v, "kvq")` gives `k+v+q` and True; against `in_proj` nothing changes, and it gives False.
    """
    spelled = leaf_words(fused.module)
    places = [_place(_own_words(name, node.names), spelled) for name in node.names]
    order = [place for place in places if place is not None]
    if len(set(order)) < len(places):
        return node, False
    turn = sorted(range(len(order)), key=order.__getitem__)
    reordered = replace(
        node,
        parts=tuple(node.parts[at] for at in turn),
        lengths=tuple(node.lengths[at] for at in turn),
        names=tuple(node.names[at] for at in turn),
    )
    return reordered, True


def spelled(patterns: Sequence[Pattern]) -> frozenset[tuple[str, ...]]:
    """The parts that names list by their initials: `("g", "q", "k", "v")` for a `gqkv_proj`."""
    leaves = {pattern.module[-1] for pattern in patterns if pattern.module}
    listed = (tuple(word for word in tokens(leaf) if len(word) == 1) for leaf in leaves)
    return frozenset(letters for letters in listed if 2 <= len(letters) <= LARGEST_FUSION)


def fusions(patterns: Sequence[Pattern], runs: bool, lists: Iterable[tuple[str, ...]] = ()) -> Iterator[Node]:
    """Joined siblings: matrices with a common parent and equal shapes off the first axis, and their biases.

    Args:
        patterns: The side's patterns.
        runs: Consecutive siblings may be joined as well, not only those whose names have a usual order.
        lists: Parts that names of the other side list by their initials.
    """
    families: dict[tuple[Path, Shape], list[Pattern]] = {}
    biases = {pattern.module: pattern for pattern in patterns if pattern.kind == "bias"}
    for pattern in patterns:
        if pattern.kind == "weight" and len(pattern.shape) >= 2 and pattern.module and _has_words(pattern.module[-1]):
            families.setdefault((pattern.module[:-1], pattern.shape[1:]), []).append(pattern)
    for family in families.values():
        for group, usual in _distinct([*groups_of(family, runs), *_listed(family, lists)]):
            yield _join(group, group, usual)
            companions = tuple(biases.get(pattern.module) for pattern in group)
            if any(companions):
                yield _join(companions, group, usual)


def _distinct(groups: Iterable[tuple[tuple[Pattern, ...], bool]]) -> list[tuple[tuple[Pattern, ...], bool]]:
    """The groups, each once."""
    found: dict[tuple[Path, ...], tuple[tuple[Pattern, ...], bool]] = {}
    for group, usual in groups:
        found.setdefault(tuple(sorted(pattern.path for pattern in group)), (group, usual))
    return list(found.values())


def _listed(family: Sequence[Pattern], lists: Iterable[tuple[str, ...]]) -> Iterator[tuple[tuple[Pattern, ...], bool]]:
    """Siblings of which each has a name that starts with another letter of a list, in its order."""
    for letters in sorted(lists):
        named = [[each for each in family if _starts(each, letter, letters)] for letter in letters]
        if all(len(found) == 1 for found in named) and len({found[0].path for found in named}) == len(letters):
            yield tuple(found[0] for found in named), True


def _starts(pattern: Pattern, letter: str, letters: tuple[str, ...]) -> bool:
    """Whether a letter is the initial of the one word of a name that any letter is the initial of."""
    first = [word[0] for word in tokens(pattern.module[-1]) if word[0] in letters and word not in vocabulary().weak]
    return first == [letter]


def groups_of(family: Sequence[Pattern], runs: bool) -> Iterator[tuple[tuple[Pattern, ...], bool]]:
    """Groups whose names have a usual order, in that order (True); and runs of consecutive siblings (False)."""
    known = [(place, pattern) for pattern in family if (place := role(tokens(pattern.module[-1]))) is not None]
    for size in range(2, min(len(known), LARGEST_FUSION) + 1):
        for group in combinations(sorted(known, key=lambda item: item[0]), size):
            places = [place for place, _ in group]
            alike = len({_beside_role(pattern) for _, pattern in group}) == 1
            if alike and len({number for number, _ in places}) == 1 and len(set(places)) == size:
                yield tuple(pattern for _, pattern in group), True
    for size in range(2, min(len(family), LARGEST_FUSION) + 1) if runs else ():
        for start in range(len(family) - size + 1):
            run = tuple(family[start : start + size])
            if any(role(tokens(pattern.module[-1])) is None for pattern in run):
                yield run, False


def _join(parts: tuple[Pattern | None, ...], weights: tuple[Pattern, ...], usual: bool) -> Node:
    """A virtual node of weights, or of what else stands beside them in their modules."""
    names = tuple(weight.module[-1] for weight in weights)
    module = (*weights[0].module[:-1], "+".join(names))
    kind = next(part.kind for part in parts if part is not None)
    return Node(parts, (*module, kind), module, kind, tuple(weight.shape[0] for weight in weights), names, usual)


def _has_words(component: str) -> bool:
    return component != HOLE and re.search("[A-Za-z]", component) is not None


def _beside_role(pattern: Pattern) -> tuple[str, ...]:
    """What a name says beside its role in an order of joining: parts of one whole are named alike."""
    return tuple(word for word in tokens(pattern.module[-1]) if role((word,)) is None)


def _own_words(name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """The words that tell a part from its siblings."""
    others = {word for other in names if other != name for word in tokens(other)}
    return tuple(word for word in tokens(name) if word not in others)


def _place(words: tuple[str, ...], spelled: tuple[str, ...]) -> int | None:
    found = {at for at, word in enumerate(spelled) if any(resemblance(own, word) >= 0.75 for own in words)}
    return found.pop() if len(found) == 1 else None
