"""What is suggested: the known conversions that fit, what the draft takes from each, and what is open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from rich.console import RenderableType
from rich.text import Text

from automatch.core.mapping import Entry
from automatch.known.draft import Suggestion
from automatch.known.fit import Fit
from automatch.report.brief import brief
from automatch.report.patterns import collapse
from automatch.report.render import facts, heading, indented, table

RANKED = 6
"""Known conversions that the report names."""

LISTED = 20
"""Patterns of keys that it names."""


def suggestion_report(found: Suggestion) -> list[RenderableType]:
    """The whole report, part by part."""
    record = found.draft
    return [
        heading(f"{record.source.name or 'source'} -> {record.target.name or 'target'}, a draft"),
        *_ranking(found),
        facts(_facts(found)),
        *_listed("guessed, to be looked at", [e.target for e in record.entries if e.status == "guessed"]),
        *_listed("nothing is known of", list(found.uncovered)),
        *_missing(found.missing),
        *_listed("source weights that nothing reads", list(record.unused)),
        Text(
            "\nNext: automatch prove SOURCE TARGET --mapping DRAFT runs both models and says which weights are right."
        ),
    ]


def _ranking(found: Suggestion) -> list[RenderableType]:
    if not found.fits:
        return [Text("no known conversion speaks of these keys; the draft is from names, shapes and order")]
    total = max(1, len(found.draft.source.weights))
    rows = [_row(fit, total, fit in found.taken) for fit in found.fits[:RANKED]]
    more = len(found.fits) - RANKED
    headings = ["known conversion", "target keys", "source keys", "in the draft"]
    reasons = [_reason(fit) for fit in found.taken]
    ranked = table(headings, rows, right=["target keys", "source keys"], whole=["known conversion"])
    return [ranked, *([Text(f"... and {more} more")] if more > 0 else []), Text(""), *reasons, Text("")]


def _row(fit: Fit, total: int, taken: bool) -> list[str]:
    return [fit.title, f"{fit.share:.0%}", f"{len(fit.used) / total:.0%}", "yes" if taken else ""]


def _reason(fit: Fit) -> RenderableType:
    """Why a conversion fits: what it says of the keys that need the most sources."""
    telling = max(fit.entries.values(), key=lambda entry: len(entry.sources))
    rules = f"{len(fit.rules.rules)} rules of {fit.title} ({fit.known.proof}) name these keys with these shapes"
    return indented(f"{rules}; such as {telling.target} = {brief(telling.expr) if telling.expr else ''}")


def _facts(found: Suggestion) -> list[tuple[str, str]]:
    entries = found.draft.entries
    counts = Counter(map(_origin, entries))
    said = [(origin, f"{count:,} of {len(entries):,} target weights") for origin, count in counts.most_common()]
    return [*said, ("of these guessed", f"{sum(entry.status == 'guessed' for entry in entries):,}")]


def _origin(entry: Entry) -> str:
    if entry.expr is None:
        return "nothing known"
    return "from known conversions" if entry.evidence.method == "rules" else "from names, shapes and order"


def _missing(patterns: Sequence[str]) -> list[RenderableType]:
    if not patterns:
        return []
    return [Text("\nkeys that the rules speak of, and that need a target:"), *map(indented, patterns)]


def _listed(title: str, keys: Sequence[str]) -> list[RenderableType]:
    if not keys:
        return []
    patterns = collapse(keys)
    more = [f"... and {len(patterns) - LISTED} more patterns"] if len(patterns) > LISTED else []
    shown = [*(pattern.text for pattern in patterns[:LISTED]), *more]
    return [Text(f"\n{title} ({len(keys):,}):"), *map(indented, shown)]
