"""Words that known conversions teach: `python -m automatch.known.words --out automatch/align/names/learned.json`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from automatch.align.names.learning import KeyPair, Learned, known_pairs, learn
from automatch.errors import RulesError
from automatch.interruption import let_through
from automatch.known.known import Known
from automatch.known.library import library
from automatch.rules.adapt import adapt


def taught(known: Known) -> tuple[KeyPair, ...]:
    """The pairs of keys that a known conversion puts in each other's place, where a run proved it.

    Args:
        known: The conversion.
    """
    proved = replace(known.rules, rules=tuple(rule for rule in known.rules.rules if rule.claim == "proved"))
    shown = {entry.target for entry in adapt(proved, known.source, known.target).entries if entry.expr is not None}
    record = known.record
    entries = (replace(each, status="proved") if each.target in shown else each for each in record.entries)
    return known_pairs(replace(record, entries=tuple(entries)))


def words_of(pairs: Iterable[tuple[str, Sequence[KeyPair]]]) -> tuple[Learned, ...]:
    """What pairs of keys teach, whatever order the conversions come in.

    Args:
        pairs: By the name of a conversion, its pairs.
    """
    return learn([found for _, found in sorted(pairs)])


def learned_text(found: Sequence[Learned], mappings: int) -> str:
    """The data file: the words, in how many mappings they stand for each other, and how far from chance that is.

    Example:
        >>> print(learned_text([Learned(("attention", "attn"), 3, 30.5)], 12), end="")
        {
          "mappings": 12,
          "synonyms": [
            ["attention", "attn", 3, 30.5]
          ]
        }
    """
    rows = ",\n".join("    " + json.dumps([*each.words, each.families, each.chi_square]) for each in found)
    listed = f"[\n{rows}\n  ]" if rows else "[]"
    return f'{{\n  "mappings": {mappings},\n  "synonyms": {listed}\n}}\n'


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what the shipped conversions and those of some folders teach; 0, or 2 where a file cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m automatch.known.words", description=__doc__)
    parser.add_argument("--library", action="append", default=[], metavar="FOLDER", help="further known conversions")
    parser.add_argument("--out", type=Path, required=True, help="the data file to write")
    asked = parser.parse_args(arguments)
    try:
        known = library(asked.library)
        text = learned_text(words_of((each.name, taught(each)) for each in known), len(known))
        asked.out.write_text(text, encoding="utf-8")
    except (RulesError, OSError) as error:
        let_through(error)
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
