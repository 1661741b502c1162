"""A block of emitted statements, and the names in it."""

from __future__ import annotations

import builtins
import keyword
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from automatch.errors import RulesError
from automatch.exporters.code import INDENT, Item, Node, Suffixed, Text, assignment, plain, statement

_WORD = re.compile(r"[^\W\d]\w*")
_LEAVES = ("weight", "bias")
RESERVED = frozenset({*dir(builtins), *keyword.kwlist, *keyword.softkwlist, "torch", "re", "Tensor", "Mapping"})
"""Names that emitted code uses otherwise."""


def safe(name: str, taken: frozenset[str] = RESERVED) -> str:
    """A name that may stand in emitted code: with underscores after it where it is taken.

    Raises:
        RulesError: It is no identifier of Python.

    Example:
        >>> safe("heads"), safe("lambda")
        ('heads', 'lambda_')
    """
    if not name.isidentifier():
        raise RulesError(f"{name!r} cannot be a name in Python; give it another in the rules")
    while name in taken:
        name += "_"
    return name


@dataclass(slots=True)
class Block:
    """Statements one after the other.

    Attributes:
        reserved: Names that may not be given to values.
        indent: How deep the next statement stands.
        lines: The lines so far.
    """

    reserved: frozenset[str] = RESERVED
    indent: int = 1
    lines: list[str] = field(default_factory=list)
    _given: set[str] = field(default_factory=set)

    def add(self, line: str) -> None:
        """Add a line at the present depth."""
        self.lines.append(f"{INDENT * self.indent}{line}")

    def comment(self, text: str) -> None:
        """Add a comment, folded."""
        width = 88 - 4 * self.indent - 2
        words, line = plain(text).split(" "), ""
        for word in words:
            if line and len(line) + 1 + len(word) > width:
                self.add(f"# {line}")
                line = word
            else:
                line = f"{line} {word}" if line else word
        self.add(f"# {line}")

    def assign(self, target: str, value: Node) -> None:
        """Add `target = value`, with names for what does not fit on lines."""
        self.lines += assignment(target, value, self.indent, self.name)

    def give_back(self, value: Node) -> None:
        """Add `return value`."""
        self.lines += statement("return ", value, self.indent, self.name)

    def fresh(self) -> None:
        """Begin a statement: names of the one before may be used again."""
        self._given.clear()

    def name(self, node: Node) -> str:
        """A name for a value, after the key that it is read from."""
        return self.called(_wanted(node))

    def called(self, wanted: str) -> str:
        """A name like the one wanted that nothing else has."""
        base = safe(wanted, self.reserved)
        name, count = base, 1
        while name in self._given or name in self.reserved:
            count += 1
            name = f"{base}_{count}"
        self._given.add(name)
        return name

    @contextmanager
    def deeper(self, head: str) -> Iterator[None]:
        """Add the head of a compound statement; what is added within stands under it."""
        self.add(head)
        self.indent += 1
        try:
            yield
        finally:
            self.indent -= 1


def _wanted(node: Node) -> str:
    while isinstance(node, Suffixed):
        node = node.of
    if isinstance(node, Text):
        return "source_key"
    if not isinstance(node, Item):
        return "part"
    bare = re.sub(r"\{[^{}]*\}", "", node.key.lstrip("f")).replace('"', " ")
    words: list[str] = _WORD.findall(bare)
    if not words:
        return "part"
    if words[-1] not in _LEAVES or len(words) == 1:
        return words[-1]
    return words[-2] if words[-1] == "weight" else f"{words[-2]}_{words[-1]}"
