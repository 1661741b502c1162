"""`automatch export`: from a rules file, or a mapping, to source code that needs no automatch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from automatch.cli.ruling import given
from automatch.core.files import replacing
from automatch.errors import RulesError
from automatch.exporters import Form, export
from automatch.mapping import load
from automatch.rules.file import read
from automatch.rules.learn import learn
from automatch.rules.ruleset import RuleSet


def run(rules: Path, form: Form, output: Path | None, optional: Sequence[str] = (), sizes: Sequence[str] = ()) -> None:
    """Write the module that some rules come to, or print it; nothing is written where anything fails.

    Args:
        rules: A rules file, or a mapping file, whose rules are learned first.
        form: What kind of module.
        output: The file to write; None to print.
        optional: Targets of rules whose source some layers or checkpoints lack.
        sizes: What open sizes are, `heads=32` or `heads=source.config.num_heads`.

    Raises:
        AutomatchError: The file cannot be read, the form cannot express its rules, or the output has nowhere to go.
    """
    source = export(_rules(rules), form, optional, given(sizes))
    if output is None:
        print(source, end="")
        return
    with replacing(output, RulesError) as temporary:
        temporary.write_text(source, encoding="utf-8")
    print(f"wrote {output}")


def _rules(path: Path) -> RuleSet:
    """The rules in a file of either kind; a mapping file is JSON and begins with a brace, which a rules file cannot."""
    if path.is_file() and path.read_bytes()[:100].lstrip().startswith(b"{"):
        return learn(load(path).record)
    return read(path)
