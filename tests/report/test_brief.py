from __future__ import annotations

from automatch.core.expr import Concat, Expr, Permute, Resize, Slice, Source
from automatch.report.brief import brief


def source(key: str) -> Source:
    return Source(key, (4, 4))


def half(of: Expr) -> Resize:
    return Resize(of, (2, 2), ("leading", "leading"), 2.0)


def test_parts_that_differ_in_one_word_share_the_others() -> None:
    assert brief(Concat(tuple(source(f"attn.{n}.weight") for n in "qkv"))) == "cat(attn.{q,k,v}.weight)"


def test_parts_that_differ_in_two_words_are_listed() -> None:
    assert brief(Concat((source("a.q.w"), source("b.k.w")))) == "cat(a.q.w, b.k.w)"


def test_parts_of_one_word_are_listed() -> None:
    assert brief(Concat((source("q"), source("k")), axis=1)) == "cat(q, k, dim=1)"


def test_parts_that_are_no_bare_sources_are_listed() -> None:
    parts = (Slice(source("a.q.w"), 0, 0, 2), Slice(source("a.k.w"), 0, 0, 2))
    assert brief(Concat(parts)) == "cat(a.q.w[0:2], a.k.w[0:2])"


def test_the_same_part_twice_is_listed_twice() -> None:
    assert brief(Concat((source("a.q.w"), source("a.q.w")))) == "cat(a.q.w, a.q.w)"


def test_resizing_is_left_out_or_marked() -> None:
    joined = Concat((half(source("a.q.w")), half(source("a.k.w"))))
    assert brief(joined) == "cat(a.{q,k}.w)"
    assert brief(joined, "~") == "cat(~a.{q,k}.w)"
    assert brief(half(Permute(source("a.w"), (1, 0))), "~") == "~a.w.T"


def test_a_part_that_is_resized_beside_one_that_is_not_keeps_its_own_mark() -> None:
    mixed = Concat((half(source("a.q.w")), Source("a.k.w", (2, 2))))
    assert brief(mixed, "~") == "cat(~a.q.w, a.k.w)"
