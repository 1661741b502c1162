"""Hold a mapping against what is expected of it, key by key."""

from __future__ import annotations

import os
from collections import abc
from dataclasses import replace
from difflib import get_close_matches
from typing import TypeAlias, assert_never

from automatch.check.expected import (
    FORMAT,
    Expected,
    Filled,
    MadeOf,
    SameAs,
    Unmapped,
    Wanted,
    Written,
    from_plain,
    from_record,
    read,
)
from automatch.check.proved import proof_differences, proved_in
from automatch.check.report import CheckReport, Difference
from automatch.check.wording import form_of, keys_in, with_keys
from automatch.core import mapping_json
from automatch.core.expr import (
    Affine,
    Arithmetic,
    Concat,
    Constant,
    Elementwise,
    Expr,
    Gather,
    Permute,
    Product,
    Reduce,
    Reshape,
    Resize,
    Slice,
    Source,
    Sum,
    sources,
)
from automatch.core.expr import text as expr_text
from automatch.core.expr_rewrite import with_sources
from automatch.core.expr_values import function_value, product_value, reduced_value
from automatch.core.json_fields import parse
from automatch.core.mapping import Entry, MappingRecord
from automatch.core.mapping_file import HasRecord, read_text
from automatch.errors import MappingFormatError

Expectation: TypeAlias = "str | os.PathLike[str] | abc.Mapping[str, object] | MappingRecord | HasRecord"
"""The path of an expectation file or mapping file, its parsed content, a plain dict of keys, or a mapping."""


def check(record: MappingRecord, expected: Expectation) -> CheckReport:
    """Compare a mapping with what is expected.

    Tied source weights count as one: an entry that reads one name of them meets the expectation of another. Against
    another mapping, expressions are compared; against a hand-written expectation, sources and their order are.

    Where the expectation was proved, the mapping has to be proved at least as far, and for the same functions.

    Args:
        record: The mapping.
        expected: The path of an expectation file or of a mapping file, the parsed content of an expectation file (it
            has a `format`), a plain dict from target key to what is wanted of it, or a mapping.

    Raises:
        MappingFormatError: The expectation is damaged.
    """
    asked = _asked(expected, record)
    wanted = asked.weights
    entries = {entry.target: entry for entry in record.entries}
    names = {alias: weight.name for weight in record.source.weights for alias in weight.aliases}
    names |= {weight.name: weight.name for weight in record.source.weights}
    both = [key for key in entries if key in wanted]
    found = [_difference(entries[key], wanted[key], names) for key in both]
    return CheckReport(
        checked=len(both),
        missing=tuple(key for key in wanted if key not in entries),
        extra=tuple(key for key in entries if key not in wanted),
        different=tuple(difference for difference in found if difference is not None),
        proof=proof_differences(record, asked.proved, wanted),
    )


def _asked(expected: Expectation, record: MappingRecord) -> Expected:
    if isinstance(expected, str | os.PathLike):
        return _from_file(expected, record)
    if isinstance(expected, MappingRecord):
        return _from_mapping(expected, record)
    if not isinstance(expected, abc.Mapping):
        return _from_mapping(expected.record, record)
    if "format" in expected:
        return read(dict(expected), "the expectation", to_compare=True)
    return Expected(from_plain(expected, "the expectation"))  # type: ignore[arg-type]  # it is checked value by value


def _from_mapping(expected: MappingRecord, record: MappingRecord) -> Expected:
    return Expected(from_record(expected), proved_in(expected, record))


def _from_file(path: str | os.PathLike[str], record: MappingRecord) -> Expected:
    where = os.fspath(path)
    content = read_text(path, "expectation file")
    document = parse(content, where)
    kind = document.get("format") if isinstance(document, dict) else None
    if kind == mapping_json.FORMAT:
        return _from_mapping(mapping_json.loads(content, where), record)
    if kind != FORMAT:
        raise MappingFormatError(
            f"{where}: format {kind!r}, expected {FORMAT!r} or {mapping_json.FORMAT!r}; is this the right file?"
        )
    return read(document, where, to_compare=True)


def _difference(entry: Entry, wanted: Wanted, names: dict[str, str]) -> Difference | None:
    what = _what_differs(entry, wanted, names)
    if what is None:
        return None
    return Difference(
        target=entry.target,
        expected_sources=_wanted_sources(wanted, names),
        sources=entry.sources,
        expected=_wanted_text(wanted),
        got="nothing" if entry.expr is None else expr_text(entry.expr),
        status=entry.status,
        what=what,
        reasons=entry.evidence.reasons,
        rivals=entry.evidence.rivals,
    )


def _what_differs(entry: Entry, wanted: Wanted, names: dict[str, str]) -> str | None:
    """What is not as wanted, in a few words; None where all is."""
    match wanted:
        case Unmapped():
            return None if entry.expr is None else "mapped, though nothing was expected"
        case _ if entry.expr is None:
            return "unmapped"
        case Filled(value=value):
            if entry.sources:
                return "has sources, though a constant was expected"
            return None if uniform_value(entry.expr) == value else "another constant"
        case MadeOf(sources=keys):
            return _sources_differ(keys, entry.expr, names)
        case Written():
            return _texts_differ(wanted, entry.expr, names)
        case SameAs(expr=expr):
            return _expressions_differ(expr, entry.expr, names)
        case _:
            assert_never(wanted)


def _sources_differ(keys: tuple[str, ...], expr: Expr, names: dict[str, str]) -> str | None:
    strange = next((key for key in keys if key not in names), None)
    if strange is not None:
        near = get_close_matches(strange, names, n=1)
        return f"the expected {strange} is no key of the source" + (f", but {near[0]} is" if near else "")
    want = tuple(dict.fromkeys(names[key] for key in keys))
    got = tuple(dict.fromkeys(names.get(key, key) for key in sources(expr)))
    if want != got:
        return "the sources in another order" if sorted(want) == sorted(got) else "other sources"
    if len(keys) > 1 and not _joins(expr):
        return "neither concatenated nor summed"
    return None


def _expressions_differ(want: Expr, got: Expr, names: dict[str, str]) -> str | None:
    want, got = (_renamed(expr, names) for expr in (want, got))
    return None if want == got else _how(sources(want), sources(got))


def _renamed(expr: Expr, names: dict[str, str]) -> Expr:
    """The expression over the first name of every source."""
    return with_sources(expr, lambda leaf: replace(leaf, key=names.get(leaf.key, leaf.key)))


def _texts_differ(want: Written, got: Expr, names: dict[str, str]) -> str | None:
    one_name = _renamed(got, names)
    same_text = with_keys(want.text, names) == with_keys(expr_text(got), names)
    if same_text and want.form in ("", form_of(got)):
        return None
    if same_text:
        return "the same text, but another expression"
    wanted = dict.fromkeys(names[key] for key in keys_in(want.text, names))
    return _how(tuple(wanted), sources(one_name))


def _how(want: tuple[str, ...], got: tuple[str, ...]) -> str:
    if want == got:
        return "the same sources, but another expression"
    return "the sources in another order" if sorted(want) == sorted(got) else "other sources"


def uniform_value(expr: Expr) -> float | None:
    """The value that an expression without sources has everywhere; None where it has several, or reads a source.

    Example:
        >>> uniform_value(Affine(Constant(1.0, (4,)), shift=-1.0))
        0.0
    """
    match expr:
        case Source():
            return None
        case Constant(value=value):
            return value
        case Concat(parts=parts):
            values = {uniform_value(part) for part in parts}
            return values.pop() if len(values) == 1 else None
        case Slice(of=of) | Permute(of=of) | Reshape(of=of) | Gather(of=of):
            return uniform_value(of)
        case Affine() | Sum() | Product() | Elementwise() | Reduce():
            return _computed_value(expr)
        case Resize(of=of, fits=fits, scale=scale):
            inner = uniform_value(of)
            return None if inner is None or (inner != 0.0 and not {"pad", "zeros"}.isdisjoint(fits)) else scale * inner
        case _:
            assert_never(expr)


def _computed_value(expr: Arithmetic) -> float | None:
    match expr:
        case Affine(of=of, scale=scale, shift=shift):
            inner = uniform_value(of)
            return None if inner is None else scale * inner + shift
        case Sum(parts=parts):
            terms = [uniform_value(part) for part in parts]
            return None if None in terms else sum(term for term in terms if term is not None)
        case Product(parts=parts):
            return product_value([uniform_value(part) for part in parts])
        case Elementwise(of=of, function=function):
            return function_value(function, uniform_value(of))
        case Reduce(of=of, kind=kind, axes=axes):
            return reduced_value(kind, uniform_value(of), [of.shape[axis] for axis in axes])
        case _:
            assert_never(expr)


def _joins(expr: Expr) -> bool:
    match expr:
        case Concat(parts=parts) | Sum(parts=parts) | Product(parts=parts):
            return len(parts) > 1 or any(map(_joins, parts))
        case Source() | Constant():
            return False
        case Slice(of=of) | Permute(of=of) | Reshape(of=of) | Gather(of=of) | Affine(of=of):
            return _joins(of)
        case Elementwise(of=of) | Reduce(of=of) | Resize(of=of):
            return _joins(of)
        case _:
            assert_never(expr)


def _wanted_sources(wanted: Wanted, names: dict[str, str]) -> tuple[str, ...]:
    match wanted:
        case MadeOf(sources=keys):
            return keys
        case Written(text=text):
            return keys_in(text, names)
        case SameAs(expr=expr):
            return sources(expr)
        case Filled() | Unmapped():
            return ()
        case _:
            assert_never(wanted)


def _wanted_text(wanted: Wanted) -> str:
    match wanted:
        case MadeOf(sources=keys):
            return ", ".join(keys)
        case Written(text=text):
            return text
        case SameAs(expr=expr):
            return expr_text(expr)
        case Filled(value=value):
            return f"the constant {value:g}"
        case Unmapped():
            return "nothing"
        case _:
            assert_never(wanted)
