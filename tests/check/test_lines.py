from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automatch.check.lines import Line, Variable, lines
from automatch.core.expr import Concat, Gather, Permute, Source
from tests.apply.records import block, entry, whole


def renamed(pairs: dict[str, str]) -> list[tuple[str, str, int]]:
    return shown(lines([entry(target, Source(source, (2,))) for target, source in pairs.items()]))


def shown(found: tuple[Line, ...]) -> list[tuple[str, str, int]]:
    return [(line.target, line.text, len(line.entries)) for line in found]


def test_layers_of_equal_numbers_become_a_variable() -> None:
    found = lines([entry(f"h.{i}.w", Source(f"layers.{i}.weight", (2,))) for i in range(3)])
    assert shown(found) == [("h.{i}.w", "layers.{i}.weight", 3)]
    assert found[0].variables == (Variable("i", 3, (0, 1, 2)),)


def test_a_pairing_of_layers_becomes_a_list() -> None:
    found = lines([each for layer, source in enumerate([0, 5, 2]) for each in block(layer, source)])
    assert [line.target for line in found] == [
        "blocks.{i}.in_proj",
        "blocks.{i}.norm.weight",
        "blocks.{i}.mlp.0.weight",
        "blocks.{i}.mlp.2.weight",
    ]
    assert [[variable.layers for variable in line.variables] for line in found] == [
        [(0, 5, 2)],
        [None],
        [(0, 5, 2)],
        [(0, 5, 2)],
    ]


@pytest.mark.parametrize(
    ("pairs", "wanted"),
    [
        ({f"h.{i}.w": "shared.7.w" for i in range(4)}, [("h.{i}.w", "shared.7.w", 4)]),
        ({f"h.{i}.e.{j}": f"l.{9 - i}.x.{j}" for i in range(2) for j in range(3)}, [("h.{i}.e.{j}", "l.{i}.x.{j}", 6)]),
        (
            {"s.0.b.0": "t.0.b.0", "s.1.b.0": "t.1.b.0", "s.1.b.1": "t.1.b.1"},
            [("s.0.b.0", "t.0.b.0", 1), ("s.1.b.{i}", "t.1.b.{i}", 2)],
        ),
        ({"n.1": "m.1", "n.3": "m.3"}, [("n.1", "m.1", 1), ("n.3", "m.3", 1)]),
        ({"h.00.w": "a.00.w", "h.01.w": "a.01.w"}, [("h.00.w", "a.00.w", 1), ("h.01.w", "a.01.w", 1)]),
    ],
)
def test_a_line_speaks_of_no_key_that_is_not_there(pairs: dict[str, str], wanted: list[tuple[str, str, int]]) -> None:
    assert renamed(pairs) == wanted


def test_a_variable_stands_for_one_list_of_layers() -> None:
    pairs = [entry(f"h.{i}", Concat((Source(f"l.{3 * i}", (2,)), Source(f"l.{5 * i}", (2,))))) for i in range(2)]
    assert shown(lines(pairs)) == [("h.0", "cat(l.0, l.0)", 1), ("h.1", "cat(l.3, l.5)", 1)]


def test_a_layer_that_is_made_otherwise_does_not_undo_what_is_alike_in_the_others() -> None:
    made = [
        entry(f"h.{i}.e.{j}", Permute(Source(f"l.{i}.{j}", (2, 2)), (1, 0)) if i == 1 else Source(f"l.{i}.{j}", (2, 2)))
        for i in range(3)
        for j in range(2)
    ]
    assert [line.target for line in lines(made)] == ["h.0.e.{i}", "h.1.e.{i}", "h.2.e.{i}"]


def test_gathered_entries_and_unmapped_ones_are_lines_too() -> None:
    made = [entry(f"w.{i}", Gather(Source(f"x.{i}", (4,)), (2,), (3, 0))) for i in range(2)]
    made += [entry(f"t.{i}", None) for i in range(2)]
    assert [(line.target, len(line.entries)) for line in lines(made)] == [("w.{i}", 2), ("t.{i}", 2)]


NUMBERS = st.integers(0, 2)
PAIRS = st.dictionaries(st.tuples(NUMBERS, NUMBERS), st.tuples(NUMBERS, NUMBERS, NUMBERS), min_size=1)


@given(PAIRS)
def test_lines_cover_every_entry_once_and_say_what_it_is(pairs: dict[tuple[int, int], tuple[int, int, int]]) -> None:
    made = [
        entry(f"h.{i}.e.{j}", Concat((Source(f"a.{x}.b.{y}", (2,)), Source(f"c.{z}", (2,)))))
        for (i, j), (x, y, z) in pairs.items()
    ]
    found = lines(made)
    assert sorted(each.target for line in found for each in line.entries) == sorted(each.target for each in made)
    for line in found:
        for each in line.entries:
            numbers = [int(word) for word in each.target.split(".") if word.isdecimal()]
            free = [word[1:-1] for word in line.target.split(".") if word.startswith("{") or word.isdecimal()]
            values = dict(zip(free, numbers, strict=True))
            text = line.text
            for variable in line.variables:
                if variable.layers is not None:
                    text = text.replace(f"{{{variable.name}}}", str(variable.layers[values[variable.name]]))
            assert text == "cat({}, {})".format(*each.sources) or len(set(each.sources)) == 1


@pytest.mark.parametrize("backwards", [False, True])
def test_the_lines_of_a_mapping_cover_every_key_once(backwards: bool) -> None:
    entries = whole().entries[::-1] if backwards else whole().entries
    assert sum(len(line.entries) for line in lines(entries)) == len(entries)
