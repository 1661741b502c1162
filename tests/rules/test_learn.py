from __future__ import annotations

import pytest

from automatch.core.expr import Gather, Source
from automatch.core.mapping import Entry, Evidence, MappingRecord
from automatch.errors import RulesError
from automatch.rules.adapt import adapt
from automatch.rules.file import dumps, loads
from automatch.rules.learn import learn
from automatch.rules.wording import term_text
from tests.apply.records import entry, record, whole
from tests.rules.sides import mapping, side, texts


def lines(made: MappingRecord, *more: MappingRecord) -> list[str]:
    return [
        f"[{rule.claim}] {rule.target} = {rule.reason if rule.term is None else term_text(rule.term)}"
        for rule in learn(made, *more).rules
    ]


def test_the_claim_is_that_of_the_weakest_key() -> None:
    made = [
        entry("a.0", Source("x.0", (2,)), "proved"),
        entry("a.1", Source("x.1", (2,)), "guessed"),
        entry("b.0", Source("y.0", (2,)), "proved"),
        entry("b.1", Source("y.1", (2,)), "structural"),
        entry("c.0", Source("z.0", (2,)), "proved"),
        entry("c.1", Source("z.1", (2,)), "proved"),
        entry("d", None),
    ]
    assert lines(record(*made)) == [
        "[proved] c.{i} = z.{i}",
        "[structural] b.{i} = y.{i}",
        "[guessed] a.{i} = x.{i}",
        "[unmapped] d = no counterpart",
    ]


def test_gathers_are_said_not_to_generalise() -> None:
    built = record(entry("w", Gather(Source("x", (4,)), (2,), (3, 0))), entry("v", Source("y", (2,))))
    rules = learn(built)
    reason = "its entries are gathered one by one, which no rule says for other sizes"
    assert lines(built) == ["[structural] v = y", f"[unmapped] w = {reason}"]
    assert rules.notes == (f"w: {reason}",)


def test_the_rules_of_a_mapping_give_it_again_also_through_a_file() -> None:
    rules = loads(dumps(learn(whole())), "f")
    again, wanted = texts(adapt(rules, whole().source, whole().target)), texts(whole())
    # resized by a factor that sizes do not tell
    reason = "it is resized in a way that its sizes do not tell"
    scaled = {f"blocks.{layer}.in_proj": reason for layer in range(2)}
    assert again == wanted | scaled
    assert rules.notes == tuple(f"{key}: {reason}" for key in scaled)


def test_keys_with_braces_are_refused_together() -> None:
    built = record(entry("a{b", Source("x", (2,))), entry("c", Source("y.{i}", (2,))))
    with pytest.raises(
        RulesError, match=r"braces stand for variables in rules; rename these keys first:\n  a\{b\n  y\.\{i\}$"
    ):
        learn(built)


def turned(heads: int, kv: int, head: int) -> MappingRecord:
    made: dict[str, str | None] = {
        "wq": f"rotary_pairs(q, heads={heads}) -> {heads * head}x6",
        "wk": f"rotary_pairs(k, heads={kv}) -> {kv * head}x6",
    }
    carried = {"config.heads": heads, "config.kv_heads": kv}
    return mapping(side({"q": (heads * head, 6), "k": (kv * head, 6)}, carried), made)


def test_one_example_with_equal_numbers_leaves_open_what_two_decide() -> None:
    wanted = turned(12, 4, 6)
    one = adapt(learn(turned(8, 8, 6)), wanted.source, wanted.target)
    assert "may be 12 or 4: give the size" in texts(one)["wq"]
    two = adapt(learn(turned(8, 8, 6), turned(8, 2, 6)), wanted.source, wanted.target)
    assert texts(two) == texts(wanted)
    assert learn(turned(8, 8, 6), turned(8, 2, 6)).notes == ()


def test_a_constant_in_one_example_is_a_size_by_two() -> None:
    def cut(rows: int) -> MappingRecord:
        return mapping(side({"x": (10, 2)}, {"config.rows": rows}), {"w": f"x[0:{rows}] -> {rows}x2"})

    three = cut(3)
    made = adapt(learn(cut(7), cut(5)), three.source, three.target)
    assert texts(made) == texts(three)


def test_mappings_that_contradict_each_other_are_refused() -> None:
    plain = mapping(side({"x": (2, 2), "n": (2,)}), {"w": "x", "norm": "n"})
    other = mapping(side({"x": (2, 2), "n": (2,)}), {"w": "x.T -> 2x2", "norm": "n"})
    with pytest.raises(RulesError, match=r"learn from each of them alone:\n  w is made in 2 ways$"):
        learn(plain, other)


def sampled(depth: int, layers: int) -> MappingRecord:
    source = side({f"l.{i}.w": (2,) for i in range(depth)})
    return mapping(source, {f"h.{i}.w": f"l.{i * depth // layers}.w" for i in range(layers)}, "structural")


@pytest.mark.parametrize(("depth", "layers"), [(12, 4), (7, 3), (40, 16), (3, 6)])
def test_layers_that_were_sampled_are_sampled_anew(depth: int, layers: int) -> None:
    assert lines(sampled(8, 3)) == ["[structural] h.{i}.w = l.{i * source_l // target_h}.w"]
    wanted = sampled(depth, layers)
    assert texts(adapt(learn(sampled(8, 3)), wanted.source, wanted.target)) == texts(wanted)


def test_tied_sources_are_named_by_the_key_that_is_most_like_the_target() -> None:
    tied = side({"embed.weight": (4, 2)})
    weights = (type(tied.weights[0])("embed.weight", (4, 2), "float32", aliases=("head.weight",)),)
    source = type(tied)("", "names", weights)
    made = [
        Entry(key, (4, 2), "float32", "proved", Source("embed.weight", (4, 2)), Evidence("structure"))
        for key in ("wte.embed.weight", "out.head.weight")
    ]
    target = side({each.target: each.shape for each in made})
    assert lines(MappingRecord(source, target, tuple(made))) == [
        "[proved] wte.embed.weight = embed.weight",
        "[proved] out.head.weight = head.weight",
    ]
    rules = learn(MappingRecord(source, target, tuple(made)))
    apart = side({"embed.weight": (4, 2), "head.weight": (4, 2)})
    assert texts(adapt(rules, apart, target)) == {"wte.embed.weight": "embed.weight", "out.head.weight": "head.weight"}
