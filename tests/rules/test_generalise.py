from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.core.expr import Concat, Source
from automatch.core.mapping import Entry
from automatch.rules.generalise import RuleSet, generalise
from tests.apply.records import block, entry, record, whole


def renamed(pairs: dict[str, str]) -> RuleSet:
    return generalise(record(*(entry(target, Source(source, (2,))) for target, source in pairs.items())))


def shown(rules: RuleSet) -> list[tuple[str, str, int]]:
    return [(rule.target, rule.expression, rule.count) for rule in rules.rules]


def test_layers_of_equal_numbers_become_a_variable() -> None:
    rules = renamed({f"h.{i}.w": f"layers.{i}.weight" for i in range(3)})
    assert shown(rules) == [("h.{i}.w", "layers.{i}.weight", 3)]
    assert rules.rules[0].layers is None
    assert rules.rules[0].variables == (("i", (0, 1, 2)),)


def test_a_pairing_of_layers_becomes_a_list() -> None:
    rules = generalise(record(*(each for layer, source in enumerate([0, 2, 5]) for each in block(layer, source))))
    q, k, v = (f"resize(layers.{{layers[i]}}.{name}.weight, 4x4) * 1.5" for name in "qkv")
    assert shown(rules) == [
        ("blocks.{i}.in_proj", f"cat({q}, {k}, {v})", 3),
        ("blocks.{i}.norm.weight", "ones(4)", 3),
        ("blocks.{i}.mlp.{j}.weight", "layers.{layers[i]}.fc.{j}.T", 6),
    ]
    assert [rule.layers for rule in rules.rules] == [(0, 2, 5), None, (0, 2, 5)]
    assert [rule.kind for rule in rules.rules] == ["concatenated", "from constants", "rearranged"]
    assert rules.rules[2].statuses == ("guessed", "structural")


def test_numbers_that_do_not_vary_stay_as_they_are() -> None:
    assert shown(renamed({f"h.{i}.mlp.0.w": f"l.{i}.ffn.2.w" for i in range(2)})) == [
        ("h.{i}.mlp.0.w", "l.{i}.ffn.2.w", 2)
    ]


def test_a_source_that_every_layer_shares_is_named_as_it_is() -> None:
    assert shown(renamed({f"h.{i}.w": "shared.7.w" for i in range(4)})) == [("h.{i}.w", "shared.7.w", 4)]


def test_two_variables_run_over_every_combination() -> None:
    rules = renamed({f"h.{i}.e.{j}": f"l.{9 - i}.x.{j}" for i in range(2) for j in range(3)})
    assert shown(rules) == [("h.{i}.e.{j}", "l.{layers[i]}.x.{j}", 6)]
    assert rules.rules[0].layers == (9, 8)


def test_a_rule_never_speaks_of_keys_that_are_not_there() -> None:
    rules = renamed({"s.0.b.0": "t.0.b.0", "s.1.b.0": "t.1.b.0", "s.1.b.1": "t.1.b.1"})
    assert shown(rules) == [("s.0.b.0", "t.0.b.0", 1), ("s.1.b.{i}", "t.1.b.{i}", 2)]


def test_what_follows_no_pattern_is_a_rule_of_its_own() -> None:
    shifted = [
        entry(f"h.{i}", Concat((Source(f"l.{3 * i + 1}", (2,)), Source(f"l.{5 * i + 2}", (2,))))) for i in range(2)
    ]
    assert shown(generalise(record(*shifted))) == [("h.0", "cat(l.1, l.2)", 1), ("h.1", "cat(l.4, l.7)", 1)]


def test_keys_with_leading_zeros_are_names() -> None:
    assert shown(renamed({"h.00.w": "a.00.w", "h.01.w": "a.01.w"})) == [
        ("h.00.w", "a.00.w", 1),
        ("h.01.w", "a.01.w", 1),
    ]


def test_unmapped_keys_are_rules_too() -> None:
    rules = generalise(record(*(entry(f"tables.{i}", None) for i in range(2))))
    assert [(rule.target, rule.kind, rule.count) for rule in rules.rules] == [("tables.{i}", "unmapped", 2)]


def reproduced(rules: RuleSet) -> dict[str, str]:
    """Every target key that the rules speak of, with the text of its expression."""
    keys: dict[str, str] = {}
    for rule in rules.rules:
        names = [name for name, _ in rule.variables]
        for numbers in product(*(values for _, values in rule.variables)):
            target, expression = rule.target, rule.expression
            for place, (name, number) in enumerate(zip(names, numbers, strict=True)):
                layer = (rule.layers or rule.variables[place][1])[rule.variables[place][1].index(number)]
                target = target.replace(f"{{{name}}}", str(number))
                expression = expression.replace(f"{{layers[{name}]}}", str(layer)).replace(f"{{{name}}}", str(number))
            keys[target] = expression
    return keys


NUMBERS = st.integers(0, 2)
PAIRS = st.dictionaries(st.tuples(NUMBERS, NUMBERS), st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1)


@given(PAIRS)
def test_rules_reproduce_the_mapping_and_nothing_else(pairs: dict[tuple[int, int], tuple[int, int, int]]) -> None:
    wanted = {f"h.{i}.e.{j}": f"cat(a.{x}.b.{y}, c.{z})" for (i, j), (x, y, z) in pairs.items()}
    entries = [
        entry(f"h.{i}.e.{j}", Concat((Source(f"a.{x}.b.{y}", (2,)), Source(f"c.{z}", (2,)))))
        for (i, j), (x, y, z) in pairs.items()
    ]
    rules = generalise(record(*entries))
    assert reproduced(rules) == wanted
    assert sum(rule.count for rule in rules.rules) == len(wanted)


@pytest.mark.parametrize("entries", [whole().entries, whole().entries[::-1]])
def test_the_rules_of_a_mapping_cover_every_key_once(entries: tuple[Entry, ...]) -> None:
    rules = generalise(record(*entries)).rules
    assert sum(rule.count for rule in rules) == len(entries)


def test_the_table_is_readable() -> None:
    assert str(generalise(whole())).split("\n")[:5] == [
        "10 rules for 15 weights",
        "    1  conv                       = patch[:, :, 1]  [conv3d to conv2d; structural]",
        "    1  same                       = same  [same name; structural]",
        "    1  new                        = old  [renamed; guessed]",
        "    2  blocks.{i}.in_proj         = cat(resize(layers.{layers[i]}.q.weight, 4x4) * 1.5, "
        "resize(layers.{layers[i]}.k.weight, 4x4) * 1.5, resize(layers.{layers[i]}.v.weight, 4x4) * 1.5)  "
        "[concatenated; structural; i = 0, 1; layers = 0, 2]",
    ]
    assert str(generalise(record())) == "0 rules for 0 weights"
