from __future__ import annotations

import pytest

from automatch.core.mapping import MappingRecord
from automatch.rules.depths import Depths
from automatch.rules.folding import Group, Seen, fold
from automatch.rules.repeats import repeated
from automatch.rules.spell import spelled
from automatch.rules.splitting import numbered
from automatch.rules.wording import term_text
from tests.rules.sides import mapping, side


def folded(*records: MappingRecord) -> list[Group]:
    seen = []
    for place, record in enumerate(records):
        known = numbered(record.source.weights)
        for entry in record.entries:
            term = None if entry.expr is None else repeated(spelled(entry.expr), known)
            seen.append(Seen(entry, term, place))
    return fold(seen, Depths(records))


def shown(made: dict[str, str | None], **shapes: tuple[int, ...]) -> list[str]:
    """The groups of a mapping between vectors of two entries, renamed and rearranged."""
    keys = {text.split(".T")[0].split("[")[0]: (2, 2) for text in made.values() if text}
    written = {key: None if text is None else text + (" -> 2x2" if ".T" in text else "") for key, text in made.items()}
    return [
        f"{group.target} = {term_text(group.term) if group.term else None}"
        for group in folded(mapping(side(keys), written))
    ]


@pytest.mark.parametrize(
    ("made", "groups"),
    [
        ({f"h.{i}.w": f"l.{i}.w" for i in range(3)}, ["h.{i}.w = l.{i}.w"]),
        ({f"h.{i}.w": f"l.{2 * i + 1}.w" for i in range(3)}, ["h.{i}.w = l.{2 * i + 1}.w"]),
        ({f"lstm.w_l{i}": f"cells.{i}.w" for i in range(2)}, ["lstm.w_l{i} = cells.{i}.w"]),
        ({f"block{i}.{j}.w": f"s.{i}.{j}.w" for i in (1, 2) for j in (0, 1)}, ["block{i}.{j}.w = s.{i}.{j}.w"]),
        (
            {f"net.{n}.{w}": f"{name}.{w}" for n, name in ((0, "first"), (2, "second")) for w in ("weight", "bias")},
            [
                "net.0.weight = first.weight",
                "net.0.bias = first.bias",
                "net.2.weight = second.weight",
                "net.2.bias = second.bias",
            ],
        ),
        (
            {f"h.{i}.mlp.{n}.w": f"l.{i}.{name}.w" for i in range(3) for n, name in ((0, "up"), (2, "down"))},
            ["h.{i}.mlp.0.w = l.{i}.up.w", "h.{i}.mlp.2.w = l.{i}.down.w"],
        ),
        (
            {f"h.{i}.w": f"l.{i}.w.T" if i == 1 else f"l.{i}.w" for i in range(4)},
            [
                "h.0.w = l.0.w",
                "h.1.w = l.1.w.T",
                "h.2.w = l.2.w",
                "h.3.w = l.3.w",
            ],  # which others are so, nothing tells
        ),
        ({f"table.{i}": None for i in range(3)}, ["table.{i} = None"]),
        ({f"h.{i}.w": "shared.w" for i in range(3)}, ["h.{i}.w = shared.w"]),
        (
            {"h.0.w": "l.0.w", "h.1.w": "l.1.w", "h.2.w": "l.7.w"},
            ["h.0.w = l.0.w", "h.1.w = l.1.w", "h.2.w = l.7.w"],
        ),
        ({"h.00.w": "l.00.w", "h.01.w": "l.01.w"}, ["h.00.w = l.00.w", "h.01.w = l.01.w"]),
    ],
)
def test_entries_that_differ_in_numbers_are_one_group(made: dict[str, str | None], groups: list[str]) -> None:
    assert sorted(shown(made)) == sorted(groups)


def test_groups_stand_in_the_order_of_their_first_entries() -> None:
    made = {"norm": "ln", "h.0.w": "l.0.w", "h.0.b": "l.0.b", "head": "out", "h.1.w": "l.1.w", "h.1.b": "l.1.b"}
    assert [line.split(" = ")[0] for line in shown(dict(made))] == ["norm", "h.{i}.w", "h.{i}.b", "head"]


def test_every_entry_is_in_one_group_with_its_words() -> None:
    source = side({f"l.{i}.e.{e}.w": (2,) for i in range(2) for e in range(3)})
    (group,) = folded(mapping(source, {f"h.{i}.x{e}": f"l.{i}.e.{e}.w" for i in range(2) for e in range(3)}))
    assert len(group.seen) == 6
    assert group.words[4] == {"i": "1", "j": "1"}
    assert group.columns == ()


def test_sizes_of_the_entries_are_columns() -> None:
    source = side({f"l.{i}.w": (4 + i, 2) for i in range(3)})
    (group,) = folded(mapping(source, {f"h.{i}.w": f"l.{i}.w[0:{2 + i}] -> {2 + i}x2" for i in range(3)}))
    assert group.columns == ((0, 0, 0), (2, 3, 4))


def test_slices_of_other_shares_are_other_groups() -> None:
    source = side({"w": (4, 2)})
    groups = folded(mapping(source, {f"h.{i}.w": f"w[{2 * i}:{2 * i + 2}] -> 2x2" for i in range(2)}))
    assert [group.target for group in groups] == ["h.0.w", "h.1.w"]


def test_the_same_keys_of_two_models_are_one_group_whatever_the_shares() -> None:
    records = [
        mapping(
            side({"qkv": (q + 2 * kv, 2)}),
            {
                "q": f"qkv[0:{q}] -> {q}x2",
                "k": f"qkv[{q}:{q + kv}] -> {kv}x2",
                "v": f"qkv[{q + kv}:{q + 2 * kv}] -> {kv}x2",
            },
        )
        for q, kv in ((12, 3), (8, 4))
    ]
    groups = folded(*records)
    assert [(group.target, len(group.seen)) for group in groups] == [("q", 2), ("k", 2), ("v", 2)]
    assert groups[1].columns == ((12, 8), (15, 12))


def test_layers_of_two_models_of_other_depth_are_one_group() -> None:
    records = [
        mapping(
            side({f"l.{i}.w": (2,) for i in range(depth)}), {f"h.{i}.w": f"l.{depth - 1 - i}.w" for i in range(depth)}
        )
        for depth in (3, 5)
    ]
    (group,) = folded(*records)
    assert group.term is not None
    assert term_text(group.term) == "l.{source_l - 1 - i}.w"
    assert len(group.seen) == 8
