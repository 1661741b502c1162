"""What the names of several weights tell together."""

from __future__ import annotations

from automatch.align.names.coherence import sure_together
from automatch.align.names.nodes import single
from automatch.align.names.numbering import renumbered, shifts
from automatch.align.names.patterns import collapse
from automatch.align.names.rounds import match_patterns
from tests.align.names.keylists import Keys, graph
from tests.align.names.test_certainty import keys_of_two_towers


def test_all_weights_of_a_module_together_tell_it_from_one_like_it() -> None:
    source, target = keys_of_two_towers("mid", "q", "proj_out"), keys_of_two_towers("middle", "to_q", "to_out.0")
    found = match_patterns(collapse(graph(source).weights), collapse(graph(target).weights), (True, True))

    told = sure_together(found, found.matches)
    queries = {match.column for match in found.matches if "to_q" in match.target.path and match.target.kind == "weight"}

    assert len(queries) == 2
    assert queries <= told


def test_one_module_alone_has_nothing_to_be_told_from() -> None:
    keys: Keys = {"attn.q.weight": (12, 8), "attn.k.weight": (12, 8)}
    found = match_patterns(collapse(graph(keys).weights), collapse(graph(keys).weights), (True, True))

    assert sure_together(found, found.matches) == frozenset()


def test_names_that_count_from_another_number_are_shifted_and_a_lone_number_is_not() -> None:
    source = single(collapse(graph({f"h.norm{n}.weight": (8,) for n in (0, 1)} | {"h.fc7.weight": (8, 8)}).weights))
    target = single(collapse(graph({f"h.norm{n}.weight": (8,) for n in (1, 2)} | {"h.fc1.weight": (8, 8)}).weights))

    moved = shifts(source, target)

    assert moved == {"norm#": 1}
    assert renumbered(("h", "norm0", "weight"), moved) == ("h", "norm1", "weight")
