"""What is expected of a mapping, per target key: by hand or by `--update`, in a file or as a plain dict.

Example:
    >>> document = {
    ...     "format": "automatch.expected",
    ...     "version": 1,
    ...     "layers": {"i": [0, 2]},
    ...     "weights": {"blocks.{i}.out.weight": "layers.{i}.o.weight", "norm.weight": {"constant": 1.0}},
    ... }
    >>> for key, wanted in from_document(document, "expected").items():
    ...     print(key, wanted)
    blocks.0.out.weight MadeOf(sources=('layers.0.o.weight',))
    blocks.1.out.weight MadeOf(sources=('layers.2.o.weight',))
    norm.weight Filled(value=1.0)
"""

from __future__ import annotations

import re
from collections import abc
from dataclasses import dataclass, replace
from itertools import product
from typing import TypeAlias, assert_never, cast

from automatch.check.proved import GOOD, Proved
from automatch.core.expr import Expr
from automatch.core.json_fields import (
    Members,
    check_kind,
    fault,
    faults_of,
    items,
    member,
    name,
    natural,
    number,
    one_of,
    string,
)
from automatch.core.mapping import MappingRecord, Verdict
from automatch.core.proof_json import function_from_json
from automatch.errors import MappingFormatError, together

FORMAT = "automatch.expected"
VERSION = 1

_VARIABLE = re.compile(r"\{([^\W\d]\w*)\}")


@dataclass(frozen=True, slots=True)
class MadeOf:
    """Exactly these sources, in this order of first use; two and more are concatenated or summed."""

    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filled:
    """No source, and this value everywhere."""

    value: float


@dataclass(frozen=True, slots=True)
class Unmapped:
    """Nothing: refusing is right."""


@dataclass(frozen=True, slots=True)
class Written:
    """Exactly the expression of this text.

    Attributes:
        text: The expression as `automatch.core.expr.text` prints it.
        form: What the text leaves out (see `automatch.check.wording.form_of`); empty where it says all.
    """

    text: str
    form: str = ""


@dataclass(frozen=True, slots=True)
class SameAs:
    """Exactly this expression, as another mapping has it."""

    expr: Expr


Wanted: TypeAlias = MadeOf | Filled | Unmapped | Written | SameAs
PlainWant: TypeAlias = "str | abc.Sequence[str] | abc.Mapping[str, float | str] | None"
"""What is wanted of one key: a source, sources in order, `{"constant": value}`, `{"is": expression}`, or nothing."""


@dataclass(frozen=True, slots=True)
class Expected:
    """All that is expected of a mapping.

    Attributes:
        weights: What is wanted of every target key.
        proved: What has to be shown of it; None where nothing is asked.
    """

    weights: dict[str, Wanted]
    proved: Proved | None = None


FORMS = 'a source key, a list of source keys, {"constant": value}, {"is": expression} or null'


def from_document(document: object, where: str, *, to_compare: bool = False) -> dict[str, Wanted]:
    """What the content of an expectation file says of every key; see `read`."""
    return read(document, where, to_compare=to_compare).weights


def read(document: object, where: str, *, to_compare: bool = False) -> Expected:
    """Read the content of an expectation file and write out its variables.

    Args:
        document: What `json.loads` gave.
        where: What messages call it.
        to_compare: Whether it is only compared. Else the text of an expression is refused: it cannot be run.

    Raises:
        MappingFormatError: It is of another kind or version, damaged, uses a variable that `layers` does not have,
            speaks of one key twice, or of the proof of a key that it does not have; all faults are listed.
    """
    members = check_kind(document, where, FORMAT, VERSION)
    try:
        layers = members.take_or("layers", _layers, {})
        proof = members.take_or("proved", _proof, None)
        weights = members.take("weights", _object)
        members.close()
        wanted = _expand_all(weights, layers)
        proved = None if proof is None else _proved(proof, wanted, layers)
    except MappingFormatError as error:
        headline = f"{where}: the expectation is damaged; mend it:"
        raise together(MappingFormatError, headline, faults_of(error)) from None
    texts = [key for key, want in wanted.items() if isinstance(want, Written)]
    if texts and not to_compare:
        headline = f"{where}: the text of an expression can be compared, but not run; use a mapping file for:"
        raise together(MappingFormatError, headline, texts)
    return Expected(wanted, proved)


def from_plain(wants: abc.Mapping[str, PlainWant], where: str) -> dict[str, Wanted]:
    """Read a plain dict of target keys; braces have no meaning in it.

    Raises:
        MappingFormatError: A value is none of the forms of `PlainWant`; all faults are listed.

    Example:
        >>> from_plain({"in_proj": ["q", "k", "v"], "table": None}, "expected")
        {'in_proj': MadeOf(sources=('q', 'k', 'v')), 'table': Unmapped()}
    """
    wanted: dict[str, Wanted] = {}
    faults: list[str] = []
    for key, value in wants.items():
        try:
            wanted[key] = _wanted(value, member("$", key))
        except MappingFormatError as error:
            faults.extend(faults_of(error))
    if faults:
        raise together(MappingFormatError, f"{where}: the expectation is damaged; mend it:", faults)
    return wanted


def from_record(record: MappingRecord) -> dict[str, Wanted]:
    """What another mapping has."""
    return {entry.target: Unmapped() if entry.expr is None else SameAs(entry.expr) for entry in record.entries}


def _wanted(value: object, where: str) -> Wanted:
    if value is None:
        return Unmapped()
    if isinstance(value, str):
        return MadeOf((name(value, where),))
    if isinstance(value, list | tuple) and value:
        return MadeOf(items(name)(list(value), where))
    if not isinstance(value, dict):
        raise fault(where, FORMS, value)
    members = Members.of(value, where)
    if "is" in value:
        wanted: Wanted = Written(members.take("is", name), members.take_or("form", string, ""))
    else:
        wanted = Filled(members.take("constant", number))
    members.close()
    return wanted


@dataclass(frozen=True, slots=True)
class _Proof:
    """The member `proved` as it stands in the file, its patterns not yet written out."""

    proved: Proved
    patterns: tuple[str, ...]


def _proof(value: object, where: str) -> _Proof:
    members = Members.of(value, where)
    verdict = cast(Verdict, members.take("verdict", one_of(*GOOD)))
    patterns = members.take_or("not_proved", items(name), ())
    source = members.take_or("source", function_from_json, None)
    target = members.take_or("target", function_from_json, None)
    if patterns and verdict == "proved":
        members.faults.append(f"{member(where, 'not_proved')}: the verdict says that every weight was proved")
    members.close()
    return _Proof(Proved(verdict, source=source, target=target), patterns)


def _proved(proof: _Proof, wanted: abc.Collection[str], layers: dict[str, tuple[int, ...]]) -> Proved:
    keys: set[str] = set()
    faults: list[str] = []
    for index, pattern in enumerate(proof.patterns):
        where = f"$.proved.not_proved[{index}]"
        try:
            expanded = _expand(pattern, Unmapped(), layers, where)
        except MappingFormatError as error:
            faults.extend(faults_of(error))
            continue
        faults.extend(f"{where}: {key!r} is not in $.weights" for key in expanded if key not in wanted)
        keys |= expanded.keys()
    if faults:
        raise MappingFormatError("\n".join(faults))
    return replace(proof.proved, not_proved=frozenset(keys))


def _layers(value: object, where: str) -> dict[str, tuple[int, ...]]:
    members = Members.of(value, where)
    strange = [variable for variable in members.left if not _VARIABLE.fullmatch(f"{{{variable}}}")]
    members.faults.extend(f"{member(where, variable)}: a variable is a word such as i" for variable in strange)
    layers = {variable: members.take(variable, items(natural)) for variable in list(members.left)}
    members.close()
    return layers


def _object(value: object, where: str) -> dict[str, object]:
    return Members.of(value, where).left


def _expand_all(weights: dict[str, object], layers: dict[str, tuple[int, ...]]) -> dict[str, Wanted]:
    wanted: dict[str, Wanted] = {}
    origin: dict[str, str] = {}
    faults: list[str] = []
    for pattern, value in weights.items():
        where = member("$.weights", pattern)
        try:
            expanded = _expand(pattern, _wanted(value, where), layers, where)
        except MappingFormatError as error:
            faults.extend(faults_of(error))
            continue
        faults.extend(f"{where}: {key!r} is also spoken of by {origin[key]!r}" for key in expanded if key in origin)
        origin |= dict.fromkeys(expanded, pattern)
        wanted |= expanded
    if faults:
        raise MappingFormatError("\n".join(faults))
    return wanted


def _expand(pattern: str, wanted: Wanted, layers: dict[str, tuple[int, ...]], where: str) -> dict[str, Wanted]:
    """The keys that a pattern stands for: in the target a variable counts from 0, in sources it takes its layers."""
    variables = list(dict.fromkeys(_VARIABLE.findall(pattern)))
    _refuse_unknown(variables, _texts(wanted), layers, where)
    expanded: dict[str, Wanted] = {}
    for indices in product(*(range(len(layers[variable])) for variable in variables)):
        own = dict(zip(variables, indices, strict=True))
        theirs = {variable: layers[variable][index] for variable, index in own.items()}
        expanded[_substitute(pattern, own)] = _at(wanted, theirs)
    return expanded


def _texts(wanted: Wanted) -> tuple[str, ...]:
    """What may hold variables."""
    match wanted:
        case MadeOf(sources=sources):
            return sources
        case Written(text=text):
            return (text,)
        case Filled() | Unmapped() | SameAs():
            return ()
        case _:
            assert_never(wanted)


def _at(wanted: Wanted, layers: dict[str, int]) -> Wanted:
    match wanted:
        case MadeOf(sources=sources):
            return MadeOf(tuple(_substitute(source, layers) for source in sources))
        case Written(text=text, form=form):
            return Written(_substitute(text, layers), form)
        case Filled() | Unmapped() | SameAs():
            return wanted
        case _:
            assert_never(wanted)


def _refuse_unknown(
    variables: list[str], sources: tuple[str, ...], layers: dict[str, tuple[int, ...]], where: str
) -> None:
    faults = [f"{where}: {{{variable}}} is not in $.layers" for variable in variables if variable not in layers]
    mentioned = dict.fromkeys(variable for source in sources for variable in _VARIABLE.findall(source))
    loose = [variable for variable in mentioned if variable not in variables]
    faults += [f"{where}: {{{variable}}} stands in a source, but not in the target key" for variable in loose]
    if faults:
        raise MappingFormatError("\n".join(faults))


def _substitute(pattern: str, values: dict[str, int]) -> str:
    return _VARIABLE.sub(lambda found: str(values[found.group(1)]), pattern)
