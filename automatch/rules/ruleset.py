"""Rules as data: what every weight of a family of models is made of."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, TypeAlias

from automatch.rules.formula import Formula
from automatch.rules.pattern import Pattern
from automatch.rules.terms import Term

Side: TypeAlias = Literal["source", "target"]
Claim: TypeAlias = Literal["proved", "structural", "guessed", "unmapped"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What the target keys of one pattern are made of.

    Attributes:
        target: The keys. Where several rules fit a key, the one with the fewest variables is used.
        term: What they are made of; None where that is not determined.
        claim: How sure the mapping was that the rule was learned from, at its weakest key.
        reason: For an undetermined one, why; for any other, what to know of it. May be empty.
        partial: Whether the source need not be there: only some of the numbers that its variables may take have such
            keys, as where the first layers have no experts, or it is the second key of a tied weight.
    """

    target: Pattern
    term: Term | None
    claim: Claim = "structural"
    reason: str = ""
    partial: bool = False


@dataclass(frozen=True, slots=True)
class Axis:
    """The size of one axis of a weight: `target[layers.*.q_proj.weight][0]`.

    Attributes:
        side: Whose weight.
        key: Its key, with stars for numbers that do not matter or variables of the rule in braces.
        axis: Which axis.
    """

    side: Side
    key: Pattern
    axis: int


@dataclass(frozen=True, slots=True)
class Carried:
    """A number that a model or its configuration carries: `source.config.num_heads`; see `automatch.core.sizes`.

    Attributes:
        side: Whose number.
        path: Where it stands; may have variables of the rule in braces.
    """

    side: Side
    path: Pattern


@dataclass(frozen=True, slots=True)
class Count:
    """How many numbers keys have in the place of a star: `source.count(layers.*.norm.weight)`.

    Attributes:
        side: Whose keys.
        key: The keys, with one star.
    """

    side: Side
    key: str


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from other sizes: `hidden_size // heads`.

    Attributes:
        formula: How; its names are those of other sizes.
    """

    formula: Formula


Reading: TypeAlias = Axis | Carried | Count | Derived


@dataclass(frozen=True, slots=True)
class Size:
    """A number that the models decide.

    Attributes:
        name: What terms call it.
        readings: Where it may be read; none for a number that is given. Where two of them differ on the models at
            hand, the one is taken with which the weights' shapes come out right; where both do, the weight is left
            undetermined.
        otherwise: Where it may be read if none of the readings is there.
        example: The number that is given, or else its value in the models that the rules were learned from, for the
            reader.
    """

    name: str
    readings: tuple[Reading, ...]
    example: int | None = None
    otherwise: tuple[Reading, ...] = ()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules for a family of models.

    Attributes:
        source: What people call the source.
        target: What people call the target.
        rules: The rules, in the order of the target's keys.
        sizes: The sizes that terms speak of, by order of first use.
        notes: What a reader should know: what does not generalise, and what the claims rest on.
        ones: Numbers of heads, groups or experts that were 1 where the rules were learned. What is done along such an
            axis did not show; where one of them is larger, every weight is a guess.
    """

    source: str
    target: str
    rules: tuple[Rule, ...]
    sizes: tuple[Size, ...] = ()
    notes: tuple[str, ...] = ()
    ones: tuple[Carried, ...] = ()

    @staticmethod
    def load(path: str | os.PathLike[str]) -> RuleSet:
        """Read a rules file.

        Raises:
            RulesError: It is missing, damaged, of another kind or version; all faults are listed.
        """
        from automatch.rules.file import read

        return read(path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a rules file; it appears whole or not at all.

        Raises:
            RulesError: The folder does not exist, or the file cannot be written.
        """
        from automatch.rules.file import write

        write(self, path)

    def __str__(self) -> str:
        """The text of a rules file."""
        from automatch.rules.file import dumps

        return dumps(self)
