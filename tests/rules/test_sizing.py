"""Which numbers become sizes, and where they are read: small mappings written down by hand, then other sizes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from automatch.core.graph import Shape
from automatch.core.mapping import MappingRecord
from automatch.rules.adapt import adapt
from automatch.rules.learn import learn
from automatch.rules.spell import normal
from tests.rules.sides import mapping, side, texts

# equal numbers in small models are wanted here; that they are warned of is tested in test_deciding.py
pytestmark = pytest.mark.filterwarnings("ignore::automatch.errors.CoincidenceWarning")

Make = Callable[..., MappingRecord]


def rows(*size: int) -> str:
    return " -> " + "x".join(map(str, size))


def split_qkv(q: int, kv: int, width: int, layers: int = 2) -> MappingRecord:
    """A fused weight with grouped heads, taken apart."""
    made: dict[str, str | None] = {}
    for i in range(layers):
        fused = f"h.{i}.qkv.weight"
        made[f"l.{i}.q.weight"] = f"{fused}[0:{q}]" + rows(q, width)
        made[f"l.{i}.k.weight"] = f"{fused}[{q}:{q + kv}]" + rows(kv, width)
        made[f"l.{i}.v.weight"] = f"{fused}[{q + kv}:{q + 2 * kv}]" + rows(kv, width)
    return mapping(side({f"h.{i}.qkv.weight": (q + 2 * kv, width) for i in range(layers)}), made)


def swapped(hidden: int, width: int) -> MappingRecord:
    """A fused weight with its halves the other way round."""
    text = f"cat(fc.weight[{hidden}:{2 * hidden}], fc.weight[0:{hidden}])"
    return mapping(side({"fc.weight": (2 * hidden, width)}), {"wide": text + rows(2 * hidden, width)})


def experts(count: int, hidden: int, width: int) -> MappingRecord:
    """Stacked experts, gates above values, as one module each."""
    made: dict[str, str | None] = {}
    for e in range(count):
        made[f"e.{e}.gate.weight"] = f"gate_up[{e}, 0:{hidden}]" + rows(hidden, width)
        made[f"e.{e}.up.weight"] = f"gate_up[{e}, {hidden}:{2 * hidden}]" + rows(hidden, width)
        made[f"e.{e}.down.weight"] = f"down[{e}]" + rows(width, hidden)
    return mapping(side({"gate_up": (count, 2 * hidden, width), "down": (count, width, hidden)}), made)


def stacking(count: int, hidden: int, width: int) -> MappingRecord:
    """One module for each expert, stacked."""
    weights: dict[str, Shape] = {f"e.{e}.{w}.weight": (hidden, width) for e in range(count) for w in ("gate", "up")}
    gates, ups = (", ".join(f"e.{e}.{w}.weight" for e in range(count)) for w in ("gate", "up"))
    text = f"cat(stack({gates}), stack({ups}), dim=1)"
    return mapping(side(weights), {"gate_up": text + rows(count, 2 * hidden, width)})


def by_head(heads: int, head: int, width: int) -> MappingRecord:
    """Queries, keys and values of each head in turn, taken apart."""
    size = heads * head
    made: dict[str, str | None] = {}
    for n, name in enumerate("qkv"):
        cut = f"qkv.weight.reshape({heads}, {3 * head}, {width})[:, {n * head}:{n * head + head}]"
        made[f"{name}.weight"] = f"{cut}.reshape({size}, {width})" + rows(size, width)
        cut = f"qkv.bias.reshape({heads}, {3 * head})[:, {n * head}:{n * head + head}]"
        made[f"{name}.bias"] = f"{cut}.reshape({size})" + rows(size)
    source = side({"qkv.weight": (3 * size, width), "qkv.bias": (3 * size,)}, {"config.heads": heads})
    return mapping(source, made)


def grouped(kv: int, shared: int, head: int, width: int) -> MappingRecord:
    """Each group's queries, its key and its value, taken apart; queries and keys turned from pairs to halves."""
    fused = f"qkv.weight.reshape({kv}, {shared + 2}, {head // 2}, 2, {width})"
    flat = f"qkv.weight.reshape({kv}, {(shared + 2) * head}, {width})"
    halves = f"qkv.weight.reshape({kv}, {(shared + 2) * head // 2}, 2, {width})"
    start, stop = shared * head // 2, (shared + 1) * head // 2
    q = f"{fused}[:, 0:{shared}].permute(0, 1, 3, 2, 4).reshape({kv * shared * head}, {width})"
    k = f"{halves}[:, {start}:{stop}].permute(0, 2, 1, 3).reshape({kv * head}, {width})"
    v = f"{flat}[:, {2 * stop}:{(shared + 2) * head}].reshape({kv * head}, {width})"
    made = {"q": q + rows(kv * shared * head, width), "k": k + rows(kv * head, width), "v": v + rows(kv * head, width)}
    carried = {"config.kv_heads": kv, "config.head_dim": head}
    return mapping(side({"qkv.weight": ((shared + 2) * head * kv, width)}, carried), dict(made))


def padded(rows_here: int, rows_there: int, width: int) -> MappingRecord:
    """A table with rows of zeros at its end."""
    text = f"cat(table, zeros({rows_there - rows_here}, {width}))"
    return mapping(side({"table": (rows_here, width)}), {"embed": text + rows(rows_there, width)})


def turned(heads: int, head: int) -> MappingRecord:
    """Queries turned from halves to pairs, with their bias."""
    size = heads * head
    made: dict[str, str | None] = {
        "wq.weight": f"rotary_pairs(q.weight, heads={heads})" + rows(size, size),
        "wq.bias": f"rotary_pairs(q.bias, heads={heads})" + rows(size),
    }
    return mapping(
        side({"q.weight": (size, size), "q.bias": (size,)}, {"config.heads": heads, "config.width": size}), made
    )


def scaled(heads: int, head: int) -> MappingRecord:
    """A transposed patch embedding: channels, then the patch."""
    text = f"conv.weight.reshape({heads}, {3 * head * head})"
    return mapping(side({"conv.weight": (heads, 3, head, head)}), {"proj.weight": text + rows(heads, 3 * head * head)})


@pytest.mark.parametrize(
    ("make", "small", "large"),
    [
        (split_qkv, (20, 5, 7), (96, 12, 33)),
        (split_qkv, (20, 5, 7, 2), (64, 64, 16, 7)),
        (swapped, (10, 6), (33, 40)),
        (experts, (3, 10, 6), (9, 14, 12)),
        (experts, (3, 10, 6), (1, 14, 12)),
        (stacking, (3, 10, 6), (8, 14, 12)),
        (by_head, (5, 6, 22), (8, 16, 100)),
        (by_head, (5, 6, 30), (3, 2, 6)),
        (grouped, (6, 3, 14, 60), (9, 5, 22, 100)),
        (grouped, (6, 3, 14, 60), (2, 1, 8, 16)),
        (padded, (20, 27, 6), (100, 128, 40)),
        (turned, (5, 6), (12, 8)),
        (scaled, (12, 5), (32, 8)),
    ],
)
def test_rules_of_a_small_mapping_give_a_large_one(make: Make, small: tuple[int, ...], large: tuple[int, ...]) -> None:
    rules, wanted = learn(make(*small)), make(*large)
    assert rules.notes == ()
    made = adapt(rules, wanted.source, wanted.target)
    assert {entry.target: entry.expr for entry in made.entries} == {
        entry.target: entry.expr and normal(entry.expr) for entry in wanted.entries
    }, str(rules)


def terms(record: MappingRecord) -> dict[str, str]:
    lines = [line for line in str(learn(record)).split("\n") if line.startswith('"')]
    return dict(line.split(" = ", 1) for line in lines)


def test_ends_of_slices_are_read_off_the_weights_that_take_them() -> None:
    found = terms(split_qkv(20, 5, 7))
    assert found['"l.{i}.q.weight"'] == '"h.{i}.qkv.weight[:q_rows]"'
    assert found['"l.{i}.k.weight"'] == '"h.{i}.qkv.weight[q_rows:q_rows + k_rows]"'
    assert found['"l.{i}.v.weight"'] == '"h.{i}.qkv.weight[q_rows + k_rows:]"'


def test_ends_of_slices_of_a_reshape_are_counted_in_all_groups() -> None:
    found = terms(by_head(5, 6, 22))
    assert "reshape(heads, -1, qkv_columns)[:, q_rows // heads:(q_rows + k_rows) // heads]" in found['"k.weight"']


def test_equal_parts_are_shares_of_the_whole() -> None:
    assert terms(swapped(10, 6)) == {'"wide"': '"cat(fc.weight[fc_rows // 2:], fc.weight[:fc_rows // 2])"'}


def test_experts_are_a_loop_or_a_variable() -> None:
    assert terms(stacking(3, 10, 6)) == {
        '"gate_up"': '"cat(stack(e.{e}.gate.weight for e), stack(e.{e}.up.weight for e), dim=1)"'
    }
    assert terms(experts(3, 10, 6))['"e.{i}.down.weight"'] == '"down[i]"'


def test_a_number_that_nothing_carries_is_said_to_be_taken_as_the_same() -> None:
    made = {"wq": "rotary_pairs(q, heads=7)" + rows(70, 4)}
    rules = learn(mapping(side({"q": (70, 4)}), dict(made)))
    assert rules.notes == ("wq: 7 is taken to be the same in every model",)
    assert (rules.rules[0].claim, rules.rules[0].reason) == ("guessed", "7 is taken to be the same in every model")
    larger = side({"q": (140, 4)}), side({"wq": (140, 4)})
    (entry,) = adapt(rules, *larger).entries
    assert entry.status == "guessed"


def test_the_width_of_a_head_may_be_what_a_size_is_derived_from() -> None:
    def turned_without_heads(heads: int, head: int) -> MappingRecord:
        made = {"wq": f"rotary_pairs(q, heads={heads})" + rows(heads * head, 9)}
        return mapping(side({"q": (heads * head, 9)}, {"config.head_dim": head}), dict(made))

    rules, wanted = learn(turned_without_heads(7, 20)), turned_without_heads(12, 16)
    assert texts(adapt(rules, wanted.source, wanted.target)) == texts(wanted)


def test_halves_of_a_small_head_are_not_taken_for_a_constant() -> None:
    """Half a head of 8 is 4, a number that may well be meant literally."""
    wanted = grouped(9, 5, 24, 100)
    made = adapt(learn(grouped(6, 3, 8, 60)), wanted.source, wanted.target)
    reasons = texts(made)
    assert "may be 4 or 12: give the size" in reasons["q"]
    names = [size.name for size in learn(grouped(6, 3, 8, 60)).sizes if f"{size.name} may be 4 or 12" in reasons["q"]]
    given = adapt(learn(grouped(6, 3, 8, 60)), wanted.source, wanted.target, {names[0]: 12})
    assert texts(given) == texts(wanted)


def test_slices_in_turns_are_left_undetermined_with_the_reason() -> None:
    turns = mapping(side({"w": (8, 3)}), {"t": "cat(w[0:2], -w[6:7], w[2:4], -w[7:8])" + rows(6, 3)})
    rules = learn(turns)
    reason = "it joins slices of w in 2 turns, and no rule says how many in other models"
    assert [(rule.claim, rule.reason) for rule in rules.rules] == [("unmapped", reason)]
    assert rules.notes == (f"t: {reason}",)
