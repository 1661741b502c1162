"""A weight that holds a whole list of the other side's weights, one member after the other: which list it may hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from automatch.align.names.nodes import groups_of
from automatch.align.names.patterns import Path, Pattern
from automatch.align.names.vocabulary import resemblance, tokens, vocabulary
from automatch.core.graph import Shape

TURNED = 0.1
"""How much less alike a stack is whose members would have to be transposed."""
CLEAR = 0.2
"""How much less alike every other stack must be for one to be sure."""
ELSEWHERE = 0.25
"""How much less alike a stack is that lies in a block of another number."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A pattern of one side, and the patterns of the other whose members it may hold.

    Attributes:
        whole: The stack.
        parts: What lies side by side in every member, in order.
        turned: Whether the stack holds the members transposed.
        alike: Agreement of the names, 0 to 1.
    """

    whole: Pattern
    parts: tuple[Pattern, ...]
    turned: bool
    alike: float

    @property
    def keys(self) -> frozenset[Path]:
        """The lists that go with the stack."""
        return frozenset(part.path for part in self.parts)

    @property
    def doubts(self) -> tuple[str, ...]:
        """What names and shapes cannot tell about how the members lie."""
        told = []
        if len(self.parts) > 1:
            told.append("parts one after the other in every member; they might be interleaved or lie in another order")
        if len(self.whole.shape) == 3 and self.whole.shape[1] == self.whole.shape[2]:
            told.append("square: its shape does not show whether it has to be transposed")
        return tuple(told)


def settle(
    wholes: Iterable[Pattern], lists: Sequence[Pattern], homes: Mapping[Path, Path]
) -> Iterator[tuple[Stack, tuple[Stack, ...]]]:
    """Stacks with the lists that they hold, each list once, and what else comes near.

    Those whose shapes leave the least choice come first. What is sure is no rival to the rest.

    Args:
        wholes: What may be stacks.
        lists: The patterns whose members they may hold.
        homes: For the chains of blocks that lists lie in, the chains on the stacks' side.
    """
    choices = {whole.path: list(_choices(whole, lists, homes)) for whole in wholes if len(whole.shape) > 1}
    taken: set[Path] = set()
    sure: set[Path] = set()
    for path in sorted(choices, key=lambda path: (len(choices[path]), path)):
        left = [choice for choice in choices[path] if taken.isdisjoint(choice.keys)]
        if not left:
            continue
        best = max(left, key=lambda choice: choice.alike)
        taken |= best.keys
        rivals = tuple(_rivals(best, choices, sure))
        sure |= set() if rivals else best.keys
        yield best, rivals


def members_of(stack: Stack) -> Shape:
    """The shape of one member, its parts together, as the list stores it."""
    first = stack.parts[0].shape
    return (sum(part.shape[0] for part in stack.parts), *first[1:])


def _rivals(best: Stack, choices: Mapping[Path, Sequence[Stack]], sure: set[Path]) -> Iterator[Stack]:
    """What else the stack would hold, nearly as alike, and stacks that are left with nothing without its lists."""
    for path, found in choices.items():
        free = [other for other in found if sure.isdisjoint(other.keys) and other is not best]
        instead = path == best.whole.path or all(not other.keys.isdisjoint(best.keys) for other in free)
        yield from (other for other in free if instead and best.alike - other.alike < CLEAR)


def _choices(whole: Pattern, lists: Sequence[Pattern], homes: Mapping[Path, Path]) -> Iterator[Stack]:
    """What a stack may hold: lists of as many members, in the block that goes with the stack's."""
    families: dict[tuple[Path, str, Shape], list[Pattern]] = {}
    for pattern in lists:
        long = len({index[-1] for index, _ in pattern.members if index}) == whole.shape[0]
        inside = pattern.chains and tuple(homes.get(chain, ("",)) for chain in pattern.chains[:-1]) == whole.chains
        if inside and long and (pattern.kind == "bias") == (whole.kind == "bias"):
            families.setdefault((pattern.chains[-1], pattern.kind, pattern.shape[1:]), []).append(pattern)
    for family in families.values():
        candidates = [*((single,) for single in family), *(group for group, _ in groups_of(family, runs=True))]
        for parts in candidates:
            yield from _fitting(whole, parts)


def _fitting(whole: Pattern, parts: tuple[Pattern, ...]) -> Iterator[Stack]:
    """The ways in which parts can be what every member of a stack holds."""
    alike = _alike(whole, parts)
    if alike <= 0.0 or not parts[0].shape:
        return
    stack = Stack(whole, parts, False, alike)
    member = members_of(stack)
    if member == whole.shape[1:]:
        yield stack
    elif len(member) == 2 and member[::-1] == whole.shape[1:]:
        yield Stack(whole, parts, True, alike - TURNED)


def _alike(whole: Pattern, parts: tuple[Pattern, ...]) -> float:
    """How far the words of a list and of a stack spell each other; 0 where their modules have no word in common."""
    weak = vocabulary().weak
    around = [word for part in parts[0].chains[-1] for word in tokens(part) if word not in weak]
    wanted = [word for part in whole.path for word in tokens(part)]
    if not any(resemblance(word, other) >= 0.75 for word in around for other in wanted):
        return 0.0
    own = list(dict.fromkeys(word for part in parts for word in tokens(_leaf(part)) if word not in weak))
    leaf = [word for word in tokens(whole.path[-1]) if word not in weak] or wanted[-1:]
    apart = ELSEWHERE * (_numbers(whole.path) != _numbers(parts[0].chains[-1]))
    return max(0.1 + 0.4 * (_spelled(own, leaf) + _spelled(leaf, own)) - apart, 0.01)


def _numbers(path: Path) -> tuple[str, ...]:
    return tuple(part for part in path if part.isdecimal())


def _leaf(part: Pattern) -> str:
    return part.module[-1] if part.module[-1] != part.chains[-1][-1] else part.path[-1]


def _spelled(words: list[str], wanted: list[str]) -> float:
    best = [max((resemblance(word, other) for word in words), default=0.0) for other in wanted]
    return sum(best) / max(1, len(best))
