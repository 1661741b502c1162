"""The bodies of the two functions of an emitted module: the conversion, and the list of the keys that it reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from automatch.exporters.code import INDENT, WIDTH, Text
from automatch.exporters.expressions import Writer
from automatch.exporters.keytext import body, plainly, stem, string
from automatch.exporters.measures import names_in_keys, names_in_terms
from automatch.exporters.plan import Loop, Step, Steps, rules_of, sources
from automatch.exporters.walk import Walk
from automatch.rules.pattern import Pattern
from automatch.rules.ruleset import Rule
from automatch.rules.terms import Fill, Term


@dataclass(slots=True)
class Converting:
    """The body of `convert`.

    Attributes:
        walk: What it is written with.
    """

    walk: Walk

    def write(self, steps: Steps, rules: Sequence[Rule]) -> None:
        """Write all steps, sizes first."""
        alone = [name for rule in rules for name in names_in_terms(rule) if not self._variables(name)]
        known: set[str] = set()
        self.walk.measure(alone, known)
        self._steps(steps, (), known)

    def _variables(self, size: str) -> tuple[str, ...]:
        return self.walk.sizes[size].variables if size in self.walk.sizes else ()

    def _steps(self, steps: Steps, bound: tuple[str, ...], known: set[str]) -> None:
        for step in steps:
            if isinstance(step, Loop):
                self._loop(step, bound, known)
                continue
            self._comment(step.rule)
            with self.walk.under(step):
                self._step(step.rule, bound, known if self.walk.sure(step) else set(known))

    def _comment(self, rule: Rule) -> None:
        if rule.claim == "guessed":
            self.walk.block.comment(f"guessed: {rule.reason or 'others would fit as well'}")
        elif rule.reason:
            self.walk.block.comment(rule.reason)

    def _loop(self, loop: Loop, bound: tuple[str, ...], known: set[str]) -> None:
        head, _ = self.walk.loop(loop, bound)
        stems = list(_stems(loop)) if not bound else []
        with self.walk.block.deeper(head), self.walk.turns(loop, bound):
            for start, name in stems:
                self.walk.block.assign(name, Text(string(start)))
            self.walk.stems += stems
            self._steps(loop.steps, (*bound, loop.variable), set(known))
            del self.walk.stems[len(self.walk.stems) - len(stems) :]

    def _step(self, rule: Rule, bound: tuple[str, ...], known: set[str]) -> None:
        assert rule.term is not None
        walk = self.walk
        walk.measure(names_in_terms(rule), known)
        key = walk.key(rule.target)
        shape = f"shapes[{key}]" if _shaped(rule.term) else ""
        walk.shapes = walk.shapes or bool(shape)
        writer = Writer(
            walk.block,
            walk.read,
            lambda each, keys: walk.numbers_in(each, keys, bound),
            walk.names,
            walk.helpers,
            repeated=self._repeated(rule),
        )
        writer.assign("converted", key, rule.term, shape)

    def _repeated(self, rule: Rule) -> bool:
        """Whether another rule reads a weight that a rule reads."""
        own = {text for key in sources(rule) for text in plainly(key)}
        others = (other for other in self.walk.rules if other is not rule)
        return any(text in own for other in others for key in sources(other) for text in plainly(key))


def _shaped(term: Term) -> bool:
    return isinstance(term, Fill) and term.shape is None


def _stems(loop: Loop) -> Iterator[tuple[str, str]]:
    """Names for the beginnings of most keys in a loop."""
    rules = list(rules_of(loop.steps))
    before = [(key, stem(key, loop.variable)) for rule in rules for key in sources(rule)]
    counts = Counter(body(each) for key, each in before if each is not None and _dotted(key, each))
    if loop.words is not None or len(rules) < 2 or not counts:
        return
    old, count = counts.most_common(1)[0]
    if count > 1:
        yield old, "old"
    new = body(loop.target)
    if new != old and any(_dotted(rule.target, loop.target) for rule in rules):
        yield new, "new"


def _dotted(key: Pattern, before: Pattern) -> bool:
    """Whether a key goes on with a dot after its stem."""
    after = key.pieces[len(before.pieces) :]
    return bool(after) and isinstance(after[0], str) and after[0].startswith(".")


@dataclass(slots=True)
class Listing:
    """The body of `source_keys`."""

    walk: Walk

    def write(self, steps: Steps, rules: Sequence[Rule]) -> None:
        """Write all steps, sizes first."""
        self.walk.measure([name for rule in rules for name in names_in_keys(sources(rule))], set())
        self._steps(steps, ())

    def _steps(self, steps: Steps, bound: tuple[str, ...]) -> None:
        yielded: set[str] = set()
        begun: set[str] = set()
        for step in steps:
            if isinstance(step, Loop):
                self._loop(step, bound)
                continue
            read = [key for key in sources(step.rule) if str(key) not in yielded]
            if not read:
                continue
            with self.walk.under(step):
                sure = self.walk.sure(step)
                self._read(read, self._beside(step, steps) if sure else read, bound, begun if sure else set())
            if sure:
                yielded |= set(map(str, read))

    def _beside(self, step: Step, steps: Steps) -> list[Pattern]:
        """All keys that the rules read which speak where a rule does."""
        rules = [each.rule for each in steps if isinstance(each, Step) and each.excepted == step.excepted]
        return list(dict.fromkeys(key for rule in rules for key in sources(rule)))

    def _read(
        self, read: Sequence[Pattern], beside: Sequence[Pattern], bound: tuple[str, ...], begun: set[str]
    ) -> None:
        for key in read:
            open_ = [name for name in key.variables if name not in bound and name not in self.walk.sizes]
            if not open_:
                self._yield(self.walk.key(key))
                continue
            start = stem(key, open_[0])
            if str(start) in begun:
                continue
            begun.add(str(start))
            siblings = [other for other in beside if stem(other, open_[0]) == start]
            name = self.walk.numbers_in(open_[0], siblings, bound)
            self._missed(name, key, bound)
            with self.walk.block.deeper(f"for {open_[0]} in {name}:"):
                self._read(siblings, siblings, (*bound, open_[0]), set())

    def _loop(self, loop: Loop, bound: tuple[str, ...]) -> None:
        read = [key for rule in rules_of(loop.steps) for key in sources(rule) if loop.variable in key.variables]
        if not read and not any(isinstance(step, Step) and step.excepted for step in loop.steps):
            self._steps(loop.steps, bound)  # every turn reads the same
            return
        head, name = self.walk.loop(loop, bound)
        if name and not bound:
            self._missed(name, read[0], bound)
        with self.walk.block.deeper(head), self.walk.turns(loop, bound):
            self._steps(loop.steps, (*bound, loop.variable))

    def _missed(self, numbers: str, key: Pattern, bound: tuple[str, ...]) -> None:
        """Where no key has a number, ask for one that has any."""
        pieces = [
            piece if isinstance(piece, str) or set(Pattern((piece,)).variables) <= set(bound) else "*"
            for piece in key.pieces
        ]
        with self.walk.block.deeper(f"if not {numbers}:"):
            self._yield(self.walk.key(Pattern(tuple(pieces))))

    def _yield(self, key: str) -> None:
        if len(INDENT) * self.walk.block.indent + len(f"yield {key}") > WIDTH:
            self.walk.block.fresh()
            self.walk.block.assign("key", Text(key))
            key = "key"
        self.walk.block.add(f"yield {key}")
