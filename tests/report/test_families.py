from __future__ import annotations

from automatch.core.expr import Concat, Expr, Source
from automatch.core.mapping import Entry, Evidence, Status
from automatch.report.families import families


def entry(target: str, source: str | None, status: Status = "structural", shape: tuple[int, ...] = (4,)) -> Entry:
    expr = None if source is None else Source(source, shape)
    return Entry(target, shape, "float32", status if expr else "unmapped", expr, Evidence("structure", ("why",)))


def rows(entries: list[Entry]) -> list[tuple[str, str, int]]:
    return [(row.target, row.expression, len(row.entries)) for row in families(entries)[0]]


def test_layers_that_say_the_same_are_one_row() -> None:
    assert rows([entry(f"h.{i}.w", f"blocks.{i}.weight") for i in range(3)]) == [("h.{i}.w", "blocks.{i}.weight", 3)]


def test_layers_paired_with_others_get_a_letter_of_their_own_and_a_legend() -> None:
    table, legend = families([entry(f"h.{i}.w", f"blocks.{i * 5 // 2}.w") for i in range(4)])
    assert [(row.target, row.expression) for row in table] == [("h.{i}.w", "blocks.{j}.w")]
    assert legend == ("i = 0..3", "j = 0 2 5 7  (in step with i)")


def test_a_letter_means_the_same_in_every_row() -> None:
    names = ("w", "b")
    table, legend = families([entry(f"h.{i}.{n}", f"blocks.{2 * i}.{n}") for i in range(2) for n in names])
    assert [row.expression for row in table] == ["blocks.{j}.w", "blocks.{j}.b"]
    assert len(legend) == 2


def test_a_swap_shows_in_the_legend() -> None:
    _, legend = families([entry("mlp.0.w", "ffn.2.w"), entry("mlp.2.w", "ffn.0.w")])
    assert legend == ("i = 0 2", "j = 2 0  (in step with i)")


def test_two_numbers_get_two_letters_where_every_combination_is_there() -> None:
    experts = [entry(f"h.{i}.experts.{k}.w", f"b.{i}.e.{k}.w") for i in range(2) for k in range(3)]
    assert rows(experts) == [("h.{i}.experts.{j}.w", "b.{i}.e.{j}.w", 6)]


def test_two_numbers_over_the_same_range_are_two_letters() -> None:
    experts = [entry(f"h.{i}.experts.{k}.w", f"b.{i}.e.{k}.w") for i in range(2) for k in range(2)]
    assert rows(experts) == [("h.{i}.experts.{j}.w", "b.{i}.e.{j}.w", 4)]


def test_missing_combinations_split_the_row() -> None:
    uneven = [entry(f"h.{i}.{k}.w", f"b.{i}.{k}.w") for i, k in ((0, 0), (0, 1), (1, 0))]
    assert rows(uneven) == [("h.{i}.0.w", "b.{i}.0.w", 2), ("h.0.1.w", "b.0.1.w", 1)]


def test_the_same_layer_everywhere_is_written_as_its_number() -> None:
    assert rows([entry(f"h.{i}.w", "shared.3.w") for i in range(2)]) == [("h.{i}.w", "shared.3.w", 2)]


def test_entries_of_another_status_or_shape_stand_apart() -> None:
    mixed = [entry("h.0.w", "b.0.w"), entry("h.1.w", "b.1.w", "guessed"), entry("h.2.w", "b.2.w", shape=(5,))]
    assert [count for _, _, count in rows(mixed)] == [1, 1, 1]


def test_unmapped_layers_are_one_row_without_expression() -> None:
    assert rows([entry(f"h.{i}.cross.w", None) for i in range(2)]) == [("h.{i}.cross.w", "", 2)]


def test_every_source_of_an_expression_is_lettered_by_itself() -> None:
    def both(i: int) -> Expr:
        return Concat((Source(f"a.{i}.w", (2,)), Source(f"b.{9 - i}.w", (2,))))

    made = [Entry(f"h.{i}.w", (4,), "float32", "structural", both(i), Evidence("structure")) for i in range(2)]
    table, legend = families(made)
    assert table[0].expression == "cat(a.{i}.w, b.{j}.w)"
    assert legend == ("i = 0 1", "j = 9 8  (in step with i)")
