from __future__ import annotations

import pytest

from automatch.core.expr import text
from automatch.errors import RulesError
from automatch.rules.adapt import adapt
from automatch.rules.file import loads
from automatch.rules.ruleset import RuleSet
from tests.rules.sides import side, texts

HEAD = 'format = "automatch.rules"\nversion = 1\nsource = "Old"\ntarget = "New"\n'


def rules(body: str) -> RuleSet:
    return loads(HEAD + body, "rules")


def test_every_key_is_made_by_the_rule_that_fits_it() -> None:
    chosen = rules('[proved]\n"h.{i}.w" = "l.{i + 1}.w"\n[guessed]\n"b" = "c"\n[unmapped]\n"mask" = "it is computed"')
    made = adapt(
        chosen,
        side({"l.1.w": (2,), "l.2.w": (2,), "c": (3,)}),
        side({"h.0.w": (2,), "h.1.w": (2,), "b": (3,), "mask": (9,), "x": (1,)}),
    )
    assert texts(made) == {
        "h.0.w": "l.1.w",
        "h.1.w": "l.2.w",
        "b": "c",
        "mask": "it is computed",
        "x": "no rule speaks of it",
    }
    assert [entry.status for entry in made.entries] == ["structural", "structural", "guessed", "unmapped", "unmapped"]
    assert made.entries[0].evidence.method == "rules"
    assert made.entries[0].evidence.reasons == (
        "by the rule h.{i}.w",
        "which a run showed for the models that it was learned from",
    )
    assert made.notes[0] == "made by rules from Old to New; nothing was run"


def test_the_most_specific_rule_wins() -> None:
    chosen = rules(
        '[structural]\n"{x:h|g}.{i}.w" = "any.{i}.w"\n"h.{i}.w" = "l.{i}.w"\n'
        '"h.0.w" = "first.w"\n"{x:h|g}.1.w" = "second.w"'
    )
    keys = {"any.3.w": (2,), "l.3.w": (2,), "first.w": (2,), "second.w": (2,), "l.1.w": (2,)}
    made = adapt(chosen, side(keys), side({"h.0.w": (2,), "h.3.w": (2,), "g.3.w": (2,), "h.1.w": (2,)}))
    # fewer numbers that are free come before fewer words that are
    assert texts(made) == {"h.0.w": "first.w", "h.3.w": "l.3.w", "g.3.w": "any.3.w", "h.1.w": "second.w"}


def test_two_rules_that_fit_equally_well_are_a_problem_of_that_key() -> None:
    chosen = rules('[structural]\n"{i}.0" = "a"\n"0.{i}" = "b"\n"c" = "a"')
    made = adapt(chosen, side({"a": (2,), "b": (2,)}), side({"0.0": (2,), "1.0": (2,), "c": (2,)}))
    assert texts(made) == {"0.0": "two rules speak of it: {i}.0 and 0.{i}", "1.0": "a", "c": "a"}


def test_what_does_not_fit_is_left_undetermined_with_the_reason() -> None:
    chosen = rules('[sizes]\nn = "source.config.n"\n[structural]\n"a" = "x"\n"b" = "y"\n"c" = "x[:n]"\n"d" = "x"')
    made = adapt(chosen, side({"x": (4,)}), side({"a": (4,), "b": (2,), "c": (2,), "d": (5,)}))
    assert texts(made) == {
        "a": "x",
        "b": "it would be made of y, which the source does not have",
        "c": "nothing tells the size n: give it",
        "d": "it comes out as [4], the target has [5]",
    }


AMBIGUOUS = """
[sizes]
heads = ["source.config.heads", "source.config.kv_heads"]
[structural]
"wq" = "rotary_pairs(q, heads=heads)"
"""


def test_the_reading_is_taken_with_which_the_shapes_come_out_right() -> None:
    source = side({"q": (20, 3)}, {"config.heads": 5, "config.kv_heads": 3})
    (entry,) = adapt(rules(AMBIGUOUS), source, side({"wq": (20, 3)})).entries
    assert entry.expr is not None
    assert text(entry.expr) == "rotary_pairs(q, heads=5)"
    assert entry.status == "guessed"
    assert "heads is taken to be 5, because shapes do not come out right with 3" in entry.evidence.reasons


def test_where_several_readings_fit_the_size_has_to_be_given() -> None:
    sides = side({"q": (24, 3)}, {"config.heads": 6, "config.kv_heads": 2}), side({"wq": (24, 3)})
    (entry,) = adapt(rules(AMBIGUOUS), *sides).entries
    assert entry.status == "unmapped"
    assert entry.evidence.reasons == (
        "heads may be 6 or 2: give the size (--size heads=NUMBER), or edit the rules (rotary_pairs(q, heads=6), or "
        "rotary_pairs(q, heads=2))",
    )
    for meant in (2, "source.config.kv_heads"):
        (given,) = adapt(rules(AMBIGUOUS), *sides, {"heads": meant}).entries
        assert given.expr is not None
        assert (text(given.expr), given.status) == ("rotary_pairs(q, heads=2)", "structural")


def test_readings_that_agree_leave_nothing_open() -> None:
    sides = side({"q": (24, 3)}, {"config.heads": 6, "config.kv_heads": 6}), side({"wq": (24, 3)})
    (entry,) = adapt(rules(AMBIGUOUS), *sides).entries
    assert entry.status == "structural"


def test_a_size_that_one_key_decides_is_decided_for_all() -> None:
    body = AMBIGUOUS + '"wk" = "rotary_pairs(k, heads=heads)"\n'
    source = side({"q": (24, 3), "k": (20, 3)}, {"config.heads": 5, "config.kv_heads": 6})
    made = adapt(rules(body), source, side({"wq": (24, 3), "wk": (20, 3)}))
    assert texts(made)["wk"] == "rotary_pairs(k, heads=5)"
    lone = adapt(rules(AMBIGUOUS), source, side({"wq": (24, 3)}))
    assert texts(lone)["wq"] == "rotary_pairs(q, heads=6)"


def test_too_many_ways_are_not_tried() -> None:
    names = [f"n{place}" for place in range(10)]
    sizes = "\n".join(f'{name} = ["2", "4"]' for name in names)
    body = f'[sizes]\n{sizes}\n[structural]\n"v" = "x"\n"w" = "x.reshape({", ".join(names)})"'
    _, entry = adapt(rules(body), side({"x": (1024,)}), side({"v": (1024,), "w": (2,) * 10})).entries
    assert entry.evidence.reasons == (f"its sizes can be read in more than 512 ways: give {' or '.join(names)}",)


def test_sizes_that_the_rules_do_not_have_are_refused() -> None:
    with pytest.raises(RulesError, match=r"^the rules have no size depth, width; they have heads$"):
        adapt(rules(AMBIGUOUS), side({}), side({}), {"depth": 3, "width": 2, "heads": 4})


def test_a_source_that_is_converted_already_is_refused() -> None:
    converted = side({"h.0.w": (2,), "h.1.w": (2,), "norm": (3,)})
    with pytest.raises(RulesError, match=r"the source's keys are the target's own \(h\.0\.w, \.\.\.\)") as caught:
        adapt(rules('[proved]\n"h.{i}.w" = "l.{i}.w"\n"norm" = "ln"'), converted, converted)
    assert "Next: use it as it is" in str(caught.value)


def test_a_source_of_another_family_is_refused_with_what_is_missing() -> None:
    foreign, target = side({f"x.{i}": (2,) for i in range(9)}), side({f"h.{i}.w": (2,) for i in range(9)})
    with pytest.raises(RulesError) as caught:
        adapt(rules('[proved]\n"h.{i}.w" = "l.{i}.w"'), foreign, target)
    lines = str(caught.value).split("\n")
    assert lines[0] == "the rules do not fit these models:"
    assert lines[1] == "  h.0.w: it would be made of l.0.w, which the source does not have"
    assert lines[-1] == "  ... and 4 more"


def test_rules_that_read_no_source_fit_every_source() -> None:
    made = adapt(rules('[proved]\n"w" = "zeros"'), side({"x": (1,)}), side({"w": (2, 3)}))
    assert texts(made) == {"w": "zeros(2, 3)"}


def test_keys_of_a_target_that_are_tied_are_all_made() -> None:
    made = adapt(rules('[proved]\n"{x:a|b}" = "c"'), side({"c": (2,)}), side({"a": (2,), "b": (2,)}))
    assert texts(made) == {"a": "c", "b": "c"}
