from __future__ import annotations

from automatch.rules.adapt import adapt
from automatch.rules.learn import learn
from tests.rules.sides import mapping, side, texts


def test_what_some_layers_have_is_partial_and_what_all_have_is_not() -> None:
    keys = {f"l.{i}.norm": (2,) for i in range(4)} | {f"l.{i}.router": (2,) for i in (2, 3)} | {"l.0.mlp": (2,)}
    rules = learn(mapping(side(keys), {key.replace("l.", "h."): key for key in keys}))
    assert {str(rule.target): rule.partial for rule in rules.rules} == {
        "h.{i}.norm": False,
        "h.{i}.router": True,
        "h.0.mlp": False,
    }
    larger = {f"l.{i}.norm": (2,) for i in range(9)} | {f"l.{i}.router": (2,) for i in range(1, 9)}
    made = adapt(rules, side(larger), side({key.replace("l.", "h."): shape for key, shape in larger.items()}))
    assert texts(made) == {key.replace("l.", "h."): key for key in larger}
