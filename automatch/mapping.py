"""The answer as people use it: `Mapping` looks up, applies, saves, counts, checks and generalises.

The data is `automatch.core.mapping.MappingRecord`; the work is done in `automatch.apply`, `automatch.check` and
`automatch.rules`.
"""

from __future__ import annotations

import os
from collections import abc
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from automatch.check.compare import Expectation, check
from automatch.check.report import CheckReport
from automatch.core.mapping import Entry, LayerPairing, MappingRecord, Verdict
from automatch.core.mapping_file import read, write
from automatch.core.summary import Summary, summarise

if TYPE_CHECKING:
    from torch import Tensor, nn

    from automatch.rules.ruleset import RuleSet


class Mapping:
    """How every weight of a target model is made from the weights of a source model.

    Iterating gives the target's state-dict keys in their order; tied keys are entries of their own.

    Args:
        record: The data.

    Example:
        >>> from automatch.core.expr import Source
        >>> from automatch.core.graph import Weight
        >>> from automatch.core.mapping import Evidence, Side
        >>> source = Side("Old", "names", (Weight("w", (2,), "float32"),))
        >>> target = Side("New", "names", (Weight("weight", (2,), "float32"),))
        >>> entry = Entry("weight", (2,), "float32", "structural", Source("w", (2,)), Evidence("names"))
        >>> mapping = Mapping(MappingRecord(source, target, (entry,)))
        >>> mapping
        <Mapping of Old onto New: 1 of 1 weights mapped; not run>
        >>> mapping["weight"].sources
        ('w',)
    """

    __slots__ = ("_by_target", "_record")

    def __init__(self, record: MappingRecord) -> None:
        """Wrap the data."""
        self._record = record
        self._by_target = {entry.target: entry for entry in record.entries}

    @staticmethod
    def load(path: str | os.PathLike[str]) -> Mapping:
        """Read a mapping file.

        Raises:
            MappingFormatError: The file is missing, damaged, of another kind or of another version.
        """
        return load(path)

    @property
    def record(self) -> MappingRecord:
        """The data."""
        return self._record

    @property
    def verdict(self) -> Verdict:
        """What is known of the mapping as a whole.

        - `"proved"`: both models were run under it, their outputs agree, and every weight was shown.
        - `"agrees, in part shown"`: their outputs agree; of some weights no output told all, or nothing was found.
        - `"not run"`: they were not run under it, or nothing could be compared. `str(mapping)` says why, and what
          would prove it.
        - `"refuted"`: their outputs differ, so it is wrong.
        """
        return self._record.verdict

    @property
    def entries(self) -> tuple[Entry, ...]:
        """One entry per key of the target's state dict, in its order."""
        return self._record.entries

    @property
    def unused(self) -> tuple[str, ...]:
        """Source keys that no entry reads."""
        return self._record.unused

    @property
    def chains(self) -> tuple[LayerPairing, ...]:
        """How the layers of repeated blocks were paired."""
        return self._record.chains

    def __getitem__(self, target: str) -> Entry:
        """The entry of a target key.

        Raises:
            KeyError: The target has no such key; the message names near ones.
        """
        if target not in self._by_target:
            near = get_close_matches(str(target), self._by_target, n=3)
            hint = f"; there is {', '.join(near)}" if near else ""
            raise KeyError(f"{target!r} is no key of the target{hint}")
        return self._by_target[target]

    def __contains__(self, target: object) -> bool:
        return target in self._by_target

    def __iter__(self) -> abc.Iterator[str]:
        return iter(self._by_target)

    def __len__(self) -> int:
        return len(self._by_target)

    def __eq__(self, other: object) -> bool:
        return self._record == other._record if isinstance(other, Mapping) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._record)

    def __repr__(self) -> str:
        mapped = sum(entry.expr is not None for entry in self.entries)
        sides = f"{self._record.source.name or 'source'} onto {self._record.target.name or 'target'}"
        return f"<Mapping of {sides}: {mapped} of {len(self)} weights mapped; {self.verdict}>"

    def __str__(self) -> str:
        """The summary: the verdict, and a table."""
        return str(self.summary())

    def apply(
        self, state_dict: abc.Mapping[str, Tensor], *, allow_unread: abc.Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """Make the target's weights from the source's.

        A weight keeps the dtype of the sources it is made of; one made of constants alone has the target's dtype.
        Every tensor owns its memory. Tensors on the meta device give tensors on the meta device.

        Args:
            state_dict: The source's state dict.
            allow_unread: Patterns (`"ema.*"`) of tensors that may be left out though the mapping never knew them;
                others are an error then. None leaves out all of them, with a warning (`UnreadWarning`).

        Returns:
            The target's keys that the mapping determines, in the target's order.

        Raises:
            MappingError: The state dict does not fit the mapping, as for `automatch.convert`; all findings are listed.
        """
        from automatch.apply.fill import fill

        return fill(self._record, state_dict, allow_unread)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a mapping file; it appears whole or not at all.

        Raises:
            MappingError: The folder does not exist, or the file cannot be written.
        """
        write(self._record, path)

    def summary(self) -> Summary:
        """The verdict, and the mapping in numbers."""
        return summarise(self._record)

    def check(self, expected: Expectation) -> CheckReport:
        """Compare with what is expected: a hand-written expectation, or another mapping.

        Args:
            expected: The path of an expectation file or of a mapping file, the content of an expectation file, plain
                target keys with their sources, or a mapping.

        Raises:
            MappingFormatError: The expectation is damaged.
        """
        return check(self._record, expected)

    def prove(
        self,
        source: nn.Module,
        target: nn.Module,
        *,
        source_inputs: Any = None,
        target_inputs: Any = None,
        draws: int = 3,
        seed: int = 0,
        outputs: abc.Sequence[tuple[int, int]] | None = None,
    ) -> Mapping:
        """Run both models on fresh weights and inputs, and say of every weight what that showed.

        Statuses become `proved` where the outputs agree and every element of the weight would have shown; see
        `record.proof` for what was compared. Neither model is changed, and this mapping is not either.

        Args:
            source: The source model, with real tensors.
            target: The target model, with real tensors.
            source_inputs: Example inputs `(args, kwargs)` of the source's forward; None takes those it carries.
            target_inputs: The same for the target. Inputs of both sides that hold the same values are drawn anew.
            draws: How many fresh draws of all source weights, at least three.
            seed: Where all randomness starts.
            outputs: Which outputs to compare, as places among both models' output tensors; None pairs them by shape.

        Returns:
            The mapping with statuses and evidence.

        Raises:
            ModelError: A model is on the meta device.
            InputsError: Inputs are missing, or `draws` is below three.
            MappingError: The mapping was made for other models.
        """
        from automatch.prove import prove, with_proof

        proof = prove(
            self._record, source, target, source_inputs, target_inputs, draws=draws, seed=seed, outputs=outputs
        )
        return Mapping(with_proof(self._record, proof))

    def inverse(self, *, partial: bool = False) -> Mapping:
        """The mapping that makes the source's weights from the target's.

        Where weights are only moved, there and back gives the same bytes; where the mapping computes, the way back
        rounds, and the entries say so.

        Args:
            partial: Whether source weights that cannot be recovered become unmapped entries, rather than an error.

        Raises:
            InverseError: Source weights cannot be recovered and `partial` is not set; all are listed with the reason.
        """
        from automatch.inverse import inverse

        return Mapping(inverse(self._record, partial=partial))

    def rules(self, *more: Mapping, sizes: abc.Mapping[str, int | str] | None = None) -> RuleSet:
        """The smallest rules that reproduce the mapping, and that say what other models of the family are made of.

        Layer and expert numbers become patterns, how layers were paired a formula, head counts and sizes names of what
        the models carry. What does not generalise is in the notes. `automatch.adapt` carries the rules over.

        Args:
            more: Mappings between other models of the same two families: what one example leaves open, two may decide.
            sizes: What sizes are that this example leaves open, because other numbers are equal to them: numbers, or
                where they are read (`{"heads": "source.config.num_heads"}`). A `CoincidenceWarning` names them.

        Raises:
            RulesError: Keys have braces, which stand for variables in rules, or a size cannot be given.
        """
        from automatch.rules.deciding import decided, warn_of_open
        from automatch.rules.learn import learn

        found = decided(learn(self._record, *(mapping.record for mapping in more)), sizes or {})
        warn_of_open(found, stacklevel=3)
        return found


def load(path: str | os.PathLike[str]) -> Mapping:
    """Read a mapping file.

    Raises:
        MappingFormatError: The file is missing, damaged, of another kind or of another version.
    """
    return Mapping(read(path))
