r"""Rules as source code that needs no automatch: `docs/exporting.md`.

Every form is a function of a rule set that gives a module's source, laid out as formatters lay it out. What a form
cannot express is refused with the reasons of all rules concerned.

Example:
    >>> from automatch.rules.file import loads
    >>> rules = loads('''
    ... format = "automatch.rules"
    ... version = 1
    ... [proved]
    ... "wte.weight" = "embed.weight"
    ... ''', "example")
    >>> print(*[line for line in export(rules, "python").splitlines() if "wte.weight" in line], sep="\n")
        converted["wte.weight"] = weights["embed.weight"]
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, TypeAlias, get_args

from automatch.exporters.python import to_python
from automatch.exporters.transformers import to_transformers
from automatch.rules.deciding import decided, plain, refuse_open
from automatch.rules.ruleset import RuleSet

Form: TypeAlias = Literal["python", "transformers"]

FORMS: tuple[Form, ...] = get_args(Form)


def export(
    rules: RuleSet, form: Form, optional: Collection[str] = (), sizes: Mapping[str, int | str] | None = None
) -> str:
    """The source of a module that does what rules say.

    Args:
        rules: The rules.
        form: `python` for a function that needs torch alone, `transformers` for conversions that transformers 5 loads
            and saves original checkpoints with.
        optional: Targets, as they stand in the rules, whose source some layers or checkpoints lack; see `to_python`.
            Rules that say so themselves (`partial`) need not be named. transformers looks for nothing that is not
            there, and needs no telling.
        sizes: What sizes are that the rules leave open: numbers, or where they are read; see `decided`.

    Raises:
        RulesError: The form cannot express some rules, or sizes are open that were equal where the rules come from; all
            are listed.
    """
    rules = plain(decided(rules, sizes or {}))
    refuse_open(rules, "code")
    if form == "transformers":
        return to_transformers(rules)
    some = [str(rule.target) for rule in rules.rules if rule.partial]
    return to_python(rules, [*some, *optional])


__all__ = ["FORMS", "Form", "export", "to_python", "to_transformers"]
