from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from automatch.core.sizes import folded, is_size, of_config


def test_a_configuration_gives_its_whole_numbers() -> None:
    config: dict[object, object] = {
        "num_heads": 4,
        "layers": 1,
        "eps": 1e-5,
        "bias": True,
        "name": "small",
        "pad_token_id": 3,
        "eos_token_ids": 7,
        "_private": 8,
        "not a name": 9,
        "sizes": [1, 2],
        "vision": {"width": 8, "text": {"width": 16}},
        3: 5,
    }
    assert dict(of_config(config)) == {
        "config.num_heads": 4,
        "config.layers": 1,
        "config.vision.width": 8,
        "config.vision.text.width": 16,
    }


def test_a_configuration_within_itself_ends_somewhere() -> None:
    config: dict[object, object] = {"width": 4}
    config["self"] = config
    found = dict(of_config(config))
    assert found["config.width"] == 4
    assert max(path.count(".") for path in found) <= 5


def test_what_is_a_size() -> None:
    assert is_size(2, "heads")
    assert is_size(1, "heads")
    assert not is_size(0, "heads")
    assert not is_size(True, "heads")
    assert not is_size(2.0, "heads")
    assert not is_size(3, "layer_idx")


def test_numbers_that_do_not_matter_are_stars() -> None:
    same = {f"layers.{i}.experts.{e}.width": 4 for i in range(2) for e in range(3)}
    assert folded(same) == (("layers.*.experts.*.width", 4),)
    by_layer = {f"layers.{i}.experts.{e}.width": i + 4 for i in range(2) for e in range(3)}
    assert folded(by_layer) == (("layers.0.experts.*.width", 4), ("layers.1.experts.*.width", 5))
    assert folded({"heads": 3, "a.0.b": 2}) == (("a.*.b", 2), ("heads", 3))
    assert folded({}) == ()


@given(st.dictionaries(st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(2, 4), max_size=8))
def test_every_number_is_found_under_exactly_one_pattern(drawn: dict[tuple[int, int], int]) -> None:
    sizes = {f"l.{i}.e.{e}.n": value for (i, e), value in drawn.items()}
    patterns = folded(sizes)
    for path, value in sizes.items():
        words = path.split(".")
        fitting = [
            found
            for pattern, found in patterns
            if all(p in ("*", w) for p, w in zip(pattern.split("."), words, strict=True))
        ]
        assert set(fitting) == {value}
