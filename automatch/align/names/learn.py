"""Learn words from known mappings: `python -m automatch.align.names.learn MAPPING.json ... --out learned.json`.

`--pairs` names a file of the pairs of keys that were learned from. It is read if it is there, the mappings are added,
and it is written: the same words can be learned again from it without the mappings.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from automatch.align.names.learning import KeyPair, Learned, known_pairs, learn
from automatch.core.mapping_json import loads
from automatch.errors import AutomatchError

Known = Mapping[str, Sequence[KeyPair]]


def learned_text(found: Sequence[Learned], known: Known) -> str:
    """The data file: the words, in how many mappings they stand for each other, and how far from chance that is.

    Example:
        >>> print(learned_text([Learned(("attention", "attn"), 3, 30.5)], {"a to b": []}), end="")
        {
          "mappings": 1,
          "synonyms": [
            ["attention", "attn", 3, 30.5]
          ]
        }
    """
    rows = ",\n".join("    " + json.dumps([*each.words, each.families, each.chi_square]) for each in found)
    listed = f"[\n{rows}\n  ]" if rows else "[]"
    return f'{{\n  "mappings": {len(known)},\n  "synonyms": {listed}\n}}\n'


def pairs_text(known: Known) -> str:
    """The pairs of keys of every mapping, one pair a line.

    Example:
        >>> print(pairs_text({"a to b": [("h.attn.q.weight", "layers.q.weight")]}), end="")
        {
          "a to b": [
            ["h.attn.q.weight", "layers.q.weight"]
          ]
        }
    """
    told = []
    for name in sorted(known):
        rows = ",\n".join(f"    {json.dumps(pair)}" for pair in known[name])
        told.append(f"  {json.dumps(name)}: [\n{rows}\n  ]" if rows else f"  {json.dumps(name)}: []")
    return "{\n" + ",\n".join(told) + "\n}\n"


def read_pairs(path: Path) -> dict[str, list[KeyPair]]:
    """The pairs of keys that `pairs_text` wrote."""
    data = json.loads(path.read_text(encoding="utf-8"))
    return {name: [(source, target) for source, target in pairs] for name, pairs in data.items()}


def learned_from(known: Known) -> tuple[Learned, ...]:
    """What the pairs of keys teach, whatever order the mappings came in."""
    return learn([known[name] for name in sorted(known)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Read mappings, write what was learned; 0, or 2 where a file cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m automatch.align.names.learn", description=__doc__)
    parser.add_argument("mappings", nargs="*", type=Path, help="mapping files; only their proved entries count")
    parser.add_argument("--out", type=Path, required=True, help="the data file to write")
    parser.add_argument("--pairs", type=Path, help="the pairs of keys: read if it exists, and written")
    asked = parser.parse_args(arguments)
    try:
        known = read_pairs(asked.pairs) if asked.pairs and asked.pairs.exists() else {}
        known |= {path.stem: list(_read(path)) for path in cast("list[Path]", asked.mappings)}
    except (AutomatchError, OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if asked.pairs:
        asked.pairs.write_text(pairs_text(known), encoding="utf-8")
    asked.out.write_text(learned_text(learned_from(known), known), encoding="utf-8")
    return 0


def _read(path: Path) -> tuple[KeyPair, ...]:
    return known_pairs(loads(path.read_text(encoding="utf-8"), str(path)))


if __name__ == "__main__":
    sys.exit(main())
