"""Rules as a TOML file, and back; `docs/rules.md` explains the format.

The bytes are stable: the same rules give the same text. Reading trusts nothing: faults are collected and reported
together, each with its place.

Example:
    >>> rules = loads('''
    ... format = "automatch.rules"
    ... version = 1
    ... [sizes]
    ... heads = "source.config.num_heads"
    ... [structural]
    ... "h.{i}.q.weight" = "rotary_pairs(layers.{i}.q_proj.weight, heads=heads)"
    ... ''', "example")
    >>> print(dumps(rules), end="")
    format = "automatch.rules"
    version = 1
    <BLANKLINE>
    [sizes]
    heads = "source.config.num_heads"
    <BLANKLINE>
    [structural]
    "h.{i}.q.weight" = "rotary_pairs(layers.{i}.q_proj.weight, heads=heads)"
"""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar, get_args

from automatch.core.files import replacing
from automatch.core.json_fields import (
    Members,
    boolean,
    check_kind,
    fault,
    faults_of,
    items,
    member,
    name,
    natural,
    string,
)
from automatch.core.mapping_file import read_text
from automatch.errors import MappingFormatError, RulesError, together
from automatch.rules import formula as formulas
from automatch.rules.pattern import check_target
from automatch.rules.pattern import parse as parse_pattern
from automatch.rules.reading import read_reading, read_term
from automatch.rules.ruleset import Carried, Claim, Derived, Reading, Rule, RuleSet, Size
from automatch.rules.terms import Join, Term, children, keys
from automatch.rules.terms import formulas as formulas_of
from automatch.rules.wording import reading_text, term_text

FORMAT = "automatch.rules"
VERSION = 1
CLAIMS: tuple[Claim, ...] = get_args(Claim)

_NAME = re.compile(r"[^\W\d]\w*")
T = TypeVar("T")


def read(path: str | os.PathLike[str]) -> RuleSet:
    """Read a rules file.

    Raises:
        RulesError: It is missing, damaged, of another kind or version; all faults are listed.
    """
    try:
        return loads(read_text(path, "rules file"), os.fspath(path))
    except MappingFormatError as error:
        raise RulesError(str(error)) from None


def write(rules: RuleSet, path: str | os.PathLike[str]) -> None:
    """Write a rules file; it appears whole or not at all.

    Raises:
        RulesError: The folder does not exist, or the file cannot be written.
    """
    with replacing(path, RulesError) as temporary:
        temporary.write_bytes(dumps(rules).encode())


def dumps(rules: RuleSet) -> str:
    """The text of a rules file."""
    head = [f"format = {_quoted(FORMAT)}", f"version = {VERSION}"]
    head += [
        f"{side} = {_quoted(value)}" for side, value in (("source", rules.source), ("target", rules.target)) if value
    ]
    if rules.ones:
        head.append(f"ones = [{', '.join(_quoted(reading_text(reading)) for reading in rules.ones)}]")
    head += ["notes = [", *(f"  {_quoted(note)}," for note in rules.notes), "]"] if rules.notes else []
    sections = ["\n".join(head)]
    if rules.sizes:
        sections.append("\n".join(["[sizes]", *map(_size_line, rules.sizes)]))
    for claim in CLAIMS:
        lines = [_rule_line(rule) for rule in rules.rules if rule.claim == claim]
        if lines:
            sections.append("\n".join([f"[{claim}]", *lines]))
    return "\n\n".join(sections) + "\n"


def _quoted(value: str) -> str:
    """A string of TOML: JSON's form will do, but for the one control character that JSON leaves bare."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _size_line(size: Size) -> str:
    if not size.readings:
        return f"{size.name} = {size.example}"
    read = _readings_text(size.readings)
    further = [f"otherwise = {_readings_text(size.otherwise)}"] if size.otherwise else []
    further += [f"example = {size.example}"] if size.example is not None else []
    return f"{size.name} = {{{', '.join([f'read = {read}', *further])}}}" if further else f"{size.name} = {read}"


def _readings_text(readings: Sequence[Reading]) -> str:
    written = [_quoted(reading_text(reading)) for reading in readings]
    return written[0] if len(written) == 1 else f"[{', '.join(written)}]"


def _rule_line(rule: Rule) -> str:
    target = _quoted(str(rule.target))
    if rule.term is None:
        return f"{target} = {_quoted(rule.reason)}"
    term = _quoted(term_text(rule.term))
    further = ["partial = true"] if rule.partial else []
    further += [f"because = {_quoted(rule.reason)}"] if rule.reason else []
    return f"{target} = {{is = {term}, {', '.join(further)}}}" if further else f"{target} = {term}"


def loads(text: str, where: str) -> RuleSet:
    """Read the text of a rules file.

    Args:
        text: The whole file.
        where: What messages call it, usually its path.

    Raises:
        RulesError: The text is not TOML, of another kind or version, damaged, or contradicts itself; all faults are
            listed.
    """
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise RulesError(f"{where}: not TOML: {error}; mend the file or make it again") from None
    return from_document(document, where)


def from_document(document: dict[str, object], where: str) -> RuleSet:
    """Read the content of a rules file.

    Args:
        document: What `tomllib.loads` gave.
        where: What messages call it.

    Raises:
        RulesError: As for `loads`.
    """
    try:
        members = check_kind(document, where, FORMAT, VERSION)
    except MappingFormatError as error:
        raise RulesError(str(error)) from None
    try:
        rules = _rules(members)
        faults = list(_contradictions(rules))
    except MappingFormatError as error:
        faults = faults_of(error)
    if faults:
        raise together(RulesError, f"{where}: the rules are damaged; mend the file:", faults)
    return rules


def _rules(members: Members) -> RuleSet:
    source, target = members.take_or("source", string, ""), members.take_or("target", string, "")
    notes = members.take_or("notes", items(string), ())
    ones = members.take_or("ones", _ones, ())
    sizes = members.take_or("sizes", _sizes, ())
    rules = tuple(rule for claim in CLAIMS for rule in members.take_or(claim, _section(claim), ()))
    members.close()
    return RuleSet(source, target, rules, sizes, notes, ones)


def _sizes(value: object, where: str) -> tuple[Size, ...]:
    members = Members.of(value, where)
    strange = [key for key in members.left if not _NAME.fullmatch(key)]
    members.faults.extend(f"{member(where, key)}: a size is called by a word such as heads" for key in strange)
    found = tuple(members.take(key, _size(key)) for key in list(members.left))
    members.close()
    return found


def _size(key: str) -> Callable[[object, str], Size]:
    def size(value: object, where: str) -> Size:
        if isinstance(value, int) and not isinstance(value, bool):
            return Size(key, (), natural(value, where))
        if not isinstance(value, dict):
            return Size(key, _readings(value, where))
        members = Members.of(value, where)
        readings, example = members.take("read", _readings), members.take_or("example", natural, None)
        otherwise = members.take_or("otherwise", _readings, ())
        members.close()
        return Size(key, readings, example, otherwise)

    return size


def _readings(value: object, where: str) -> tuple[Reading, ...]:
    if isinstance(value, str):
        return (_said(read_reading, value, where),)
    found = items(name)(value, where)
    if not found:
        raise fault(where, "one place to read the size from, at least", value)
    return tuple(_said(read_reading, each, where) for each in found)


def _ones(value: object, where: str) -> tuple[Carried, ...]:
    found = _readings(value, where)
    if not all(isinstance(reading, Carried) for reading in found):
        raise fault(where, "numbers that a model carries, such as source.config.num_heads", value)
    return tuple(reading for reading in found if isinstance(reading, Carried))


def _section(claim: Claim) -> Callable[[object, str], tuple[Rule, ...]]:
    def section(value: object, where: str) -> tuple[Rule, ...]:
        members = Members.of(value, where)
        found = [members.take(key, _rule(key, claim)) for key in list(members.left)]
        members.close()
        return tuple(found)

    return section


def _rule(key: str, claim: Claim) -> Callable[[object, str], Rule]:
    def rule(value: object, where: str) -> Rule:
        target = _said(parse_pattern, key, where)
        _said(check_target, target, where)
        if claim == "unmapped":
            return Rule(target, None, claim, string(value, where))
        if not isinstance(value, dict):
            return Rule(target, _said(read_term, name(value, where), where), claim)
        members = Members.of(value, where)
        written, reason = members.take("is", name), members.take_or("because", string, "")
        partial = members.take_or("partial", boolean, False)
        members.close()
        return Rule(target, _said(read_term, written, where), claim, reason, partial)

    return rule


A = TypeVar("A")


def _said(read: Callable[[A], T], value: A, where: str) -> T:
    """What a reader of text gives; its complaint becomes a fault with a place."""
    try:
        return read(value)
    except RulesError as error:
        raise MappingFormatError(f"{where}: {error}") from None


def _contradictions(rules: RuleSet) -> Iterator[str]:
    """What no single line shows: patterns given twice, names that nothing declares."""
    counts = Counter(str(rule.target) for rule in rules.rules)
    yield from (f"{target!r} is spoken of {count} times" for target, count in counts.items() if count > 1)
    sizes = {size.name for size in rules.sizes}
    for size in rules.sizes:
        for reading in (*size.readings, *size.otherwise):
            own = formulas.names(reading.formula) if isinstance(reading, Derived) else ()
            yield from (f"size {size.name}: {each} is not in [sizes]" for each in own if each not in sizes)
    yield from (f"size {size.name} is derived from itself" for size in rules.sizes if size.name in _inner(size, rules))
    for rule in rules.rules:
        if rule.term is None:
            continue
        known = {*rule.target.variables, *sizes, *_loops(rule.term)}
        mentioned = [name for key in keys(rule.term) for name in key.variables]
        mentioned += [name for formula in formulas_of(rule.term) for name in formulas.names(formula)]
        loose = [name for name in dict.fromkeys(mentioned) if name not in known]
        yield from (f"{str(rule.target)!r}: {name} is neither in the key nor in [sizes]" for name in loose)


def _inner(size: Size, rules: RuleSet) -> set[str]:
    """The names of all sizes that a size is derived from, at any depth."""
    known = {each.name: each for each in rules.sizes}
    found: set[str] = set()
    left = [size]
    while left:
        each = left.pop()
        readings = (r for r in (*each.readings, *each.otherwise) if isinstance(r, Derived))
        fresh = {name for r in readings for name in formulas.names(r.formula)} - found
        found |= fresh
        left += [known[name] for name in fresh if name in known]
    return found


def _loops(term: Term) -> Iterator[str]:
    if isinstance(term, Join) and term.each:
        yield term.each
    for child in children(term):
        yield from _loops(child)
