"""Emitted Python functions, run, beside what automatch itself makes of the same rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save
from torch import Tensor

from automatch.core.graph import Shape
from automatch.errors import RulesError
from automatch.exporters.python import to_python
from tests.exporters.support import assert_same, known, module_of, rules_of, weights

DECODER = rules_of(
    """
source = "LLaMA as published"
target = "ours"
[sizes]
heads = {read = "source.config.num_attention_heads", example = 4}
kv_heads = {read = "target.config.num_key_value_heads", example = 2}
[proved]
"model.embed.weight" = "tok_embeddings.weight"
"model.layers.{i}.attn.q.weight" = "rotary_halves(layers.{i}.attention.wq.weight, heads=heads)"
"model.layers.{i}.attn.kv.weight" = "cat(rotary_halves(layers.{i}.attention.wk.weight, heads=kv_heads), KV)"
"model.layers.{i}.mlp.{x:up|down}.weight" = "layers.{i}.ff.{x}.weight.T"
"model.layers.{i}.norm.weight" = "1 + layers.{i}.norm.weight"
"model.layers.{i}.experts.gate_up" = "stack(cat(layers.{i}.experts.{e}.w1.weight, W3) for e)"
"model.layers.{i}.experts.down" = "stack(layers.{i}.experts.{e}.w2.weight for e)"
[guessed]
"model.layers.{i}.scale" = {is = "layers.{i}.scale", because = "two weights of this size"}
[unmapped]
"model.rope.inv_freq" = "computed from the position"
""".replace("KV", "layers.{i}.attention.wv.weight").replace("W3", "layers.{i}.experts.{e}.w3.weight")
)


def decoder(layers: int = 3, experts: int = 3) -> dict[str, Shape]:
    """Shapes of the decoder's original weights."""
    shapes: dict[str, Shape] = {"tok_embeddings.weight": (10, 8)}
    for i in range(layers):
        one: dict[str, Shape] = {
            "attention.wq.weight": (16, 8),
            "attention.wk.weight": (8, 8),
            "attention.wv.weight": (8, 8),
            "ff.up.weight": (12, 8),
            "ff.down.weight": (8, 12),
            "norm.weight": (8,),
            "scale": (1,),
            **{f"experts.{e}.w{n}.weight": (6, 8) if n != 2 else (8, 6) for e in range(experts) for n in (1, 2, 3)},
        }
        shapes |= {f"layers.{i}.{key}": shape for key, shape in one.items()}
    return shapes


def converted(layers: int = 3, experts: int = 3) -> dict[str, Shape]:
    """Shapes of its converted weights."""
    shapes: dict[str, Shape] = {"model.embed.weight": (10, 8)}
    for i in range(layers):
        one: dict[str, Shape] = {
            "attn.q.weight": (16, 8),
            "attn.kv.weight": (16, 8),
            "mlp.up.weight": (8, 12),
            "mlp.down.weight": (12, 8),
            "norm.weight": (8,),
            "experts.gate_up": (experts, 12, 8),
            "experts.down": (experts, 8, 6),
            "scale": (1,),
        }
        shapes |= {f"model.layers.{i}.{key}": shape for key, shape in one.items()}
    return shapes


SIZES = {"heads": 4, "kv_heads": 2}


@pytest.fixture(scope="module")
def decoding(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return module_of(to_python(DECODER), tmp_path_factory.mktemp("emitted"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_function_makes_what_automatch_makes(decoding: Any, dtype: torch.dtype) -> None:
    source = weights(decoder(), dtype)
    assert_same(decoding.convert(source, **SIZES), known(DECODER, source, converted(), SIZES))


def test_layers_and_experts_are_as_many_as_there_are(decoding: Any) -> None:
    source = weights(decoder(layers=11, experts=12))
    assert_same(decoding.convert(source, **SIZES), known(DECODER, source, converted(11, 12), SIZES))


def test_the_result_can_be_saved(decoding: Any) -> None:
    """safetensors refuses weights that share memory or are not contiguous."""
    assert len(save(decoding.convert(weights(decoder()), **SIZES))) > 0


def test_the_source_is_left_as_it_was(decoding: Any) -> None:
    source = weights(decoder())
    before = {key: value.clone() for key, value in source.items()}
    for value in decoding.convert(source, **SIZES).values():
        assert value.is_contiguous()
    assert_same(source, before)


def test_results_of_one_weight_share_no_memory(tmp_path: Path) -> None:
    rules = rules_of(
        '[structural]\n"a" = "w.reshape(-1)"\n"b" = "w.reshape(2, 6)"\n"c" = "w[0:2]"\n"d" = "w[:, 0:2].T"'
    )
    found = module_of(to_python(rules), tmp_path).convert(weights({"w": (3, 4)}))
    assert len(save(found)) > 0
    assert found["d"].is_contiguous()


def test_missing_and_left_over_weights_are_reported_together(decoding: Any) -> None:
    source = weights(decoder())
    del source["layers.1.attention.wk.weight"], source["layers.2.experts.1.w2.weight"], source["tok_embeddings.weight"]
    source["rope.freqs"] = torch.ones(2)
    with pytest.raises(ValueError, match="missing weights") as caught:
        decoding.convert(source, **SIZES)
    wanted = ["layers.1.attention.wk.weight", "layers.2.experts.1.w2.weight", "tok_embeddings.weight", "rope.freqs"]
    assert [key for key in wanted if key not in str(caught.value)] == []


def test_weights_of_another_model_are_reported(decoding: Any) -> None:
    with pytest.raises(ValueError, match=r"missing weights: layers\.\*\.attention\.wq\.weight, tok_embeddings\.weight"):
        decoding.convert({"conv.weight": torch.ones(1)}, **SIZES)


def test_left_over_weights_may_be_passed_over(decoding: Any) -> None:
    source = weights(decoder())
    more = source | {"rope.freqs": torch.ones(2)}
    for allowed in (True, ["rope.*"]):
        assert_same(decoding.convert(more, **SIZES, allow_unused=allowed), decoding.convert(source, **SIZES))
    with pytest.raises(ValueError, match=r"weights that nothing is made of: rope\.freqs$"):
        decoding.convert(more, **SIZES, allow_unused=["ema.*"])


def test_floats_of_8_bits_are_not_taken_without_the_scales_beside_them(decoding: Any) -> None:
    source = weights(decoder())
    key = "layers.1.attention.wk.weight"
    source[key] = source[key].to(torch.float8_e4m3fn)
    source["layers.1.attention.wk.weight_scale"] = torch.ones(1)
    with pytest.raises(
        ValueError, match=r"floats of 8 bits whose scales nothing reads: layers\.1\.attention\.wk\.weight$"
    ):
        decoding.convert(source, **SIZES, allow_unused=True)


def test_converted_weights_are_refused(decoding: Any) -> None:
    once = decoding.convert(weights(decoder()), **SIZES)
    with pytest.raises(ValueError, match=r"converted already: model\.embed\.weight"):
        decoding.convert(once, **SIZES)


def test_keys_read_are_those_that_are_there(decoding: Any) -> None:
    source = weights(decoder())
    assert sorted(decoding.source_keys(source)) == sorted(source)


def test_what_is_not_certain_is_said() -> None:
    text = to_python(DECODER)
    assert "# guessed: two weights of this size\n" in text
    assert "- model.rope.inv_freq: computed from the position\n" in text
    assert "heads: A number; source.config.num_attention_heads, 4 where the rules come" in text


def test_only_helpers_that_are_used_come_along() -> None:
    text = to_python(rules_of('[proved]\n"a.weight" = "b.weight"'))
    assert [line for line in text.splitlines() if line.startswith("def ")] == [
        "def convert(",
        "def source_keys(weights: Mapping[str, Tensor]) -> Iterator[str]:",
        "def _check(",
        "def _listed(keys: list[str]) -> str:",
    ]


def test_the_same_rules_give_the_same_text() -> None:
    assert to_python(DECODER) == to_python(DECODER)


Case = tuple[str, dict[str, Shape], dict[str, Shape], dict[str, int]]
LONG = "a_module_of_a_very_long_name.another_module_of_a_long_name.yet_another_one.projection_of_something"
QUOTES = r"""'f"\' = '"its \"odd\""'"""
CASES: dict[str, Case] = {
    "slices": (
        '[sizes]\nrows = "source[{i}.k.weight][0]"\n[proved]\n'
        '"{i}.a" = "{i}.qkv[0:rows]"\n"{i}.b" = "{i}.qkv[rows:2 * rows, 1:-1]"\n"{i}.c" = "{i}.qkv[2 * rows:, 0]"\n'
        '"{i}.d" = "{i}.qkv.T[-1, rows + 1:]"\n"{i}.k" = "{i}.k.weight"',
        {"0.qkv": (9, 4), "0.k.weight": (3, 4), "1.qkv": (6, 4), "1.k.weight": (2, 4)},
        {
            **{"0.a": (3, 4), "0.b": (3, 2), "0.c": (3,), "0.d": (5,), "0.k": (3, 4)},
            **{"1.a": (2, 4), "1.b": (2, 2), "1.c": (2,), "1.d": (3,), "1.k": (2, 4)},
        },
        {},
    ),
    "interleaved per head": (
        '[sizes]\nheads = "source.config.heads"\n[proved]\n'
        '"qkv.{w:weight|bias}" = "interleave(q.{w}, k.{w}, v.{w}, groups=heads)"\n'
        '"o.weight" = "interleave(o.weight, p.weight, groups=heads, dim=1)"',
        {**{f"{n}.{w}": (8, 3)[: 2 if w == "weight" else 1] for n in "qkv" for w in ("weight", "bias")}}
        | {"o.weight": (3, 8), "p.weight": (3, 4)},
        {"qkv.weight": (24, 3), "qkv.bias": (24,), "o.weight": (3, 12)},
        {"heads": 4},
    ),
    "rotary, some of each head, on other axes": (
        '[sizes]\nheads = 2\nfirst = "source.config.rotary"\n[proved]\n'
        '"a" = "rotary_pairs(q, heads=heads, first=first)"\n"b" = "rotary_halves(q, heads=heads, first=first)"\n'
        '"c" = "rotary_pairs(k, heads=2 * heads, dim=1)"\n"d" = "rotary_halves(k, heads=2, first=2, dim=1)"',
        {"q": (16, 3), "k": (3, 16)},
        {"a": (16, 3), "b": (16, 3), "c": (3, 16), "d": (3, 16)},
        {"first": 4},
    ),
    "arithmetic": (
        '[sizes]\nwidth = "source[w][1]"\n[structural]\n'
        '"a" = "{width ** -0.5} * w"\n"b" = "1 + -2 * w"\n"c" = "w * s / exp(t)"\n"d" = "w + w.T"\n"e" = "1 / t"\n'
        '"f" = "-1 + {(width + 2) ** 0.5} * softplus(t)"\n"g" = "w.sum(dim=0)"\n"h" = "inverse_softplus(abs(t))"\n'
        '"k" = "cat(w * s, {width} * w[0:1])"\n"m" = "(w + s).T"',
        {"w": (4, 4), "s": (4,), "t": (4,)},
        {n: (4, 4) for n in "abcdm"} | {"e": (4,), "f": (4,), "g": (4,), "h": (4,), "k": (5, 4)},
        {},
    ),
    "constants": (
        '[structural]\n"a" = "cat(q, zeros(3), v)"\n"b" = "ones(2, 3)"\n"c" = "full[0.5](2, 2)"\n"d" = "v"',
        {"q": (3,), "v": (3,)},
        {"a": (9,), "b": (2, 3), "c": (2, 2), "d": (3,)},
        {},
    ),
    "reshaped": (
        '[sizes]\nrows = "source[w][0]"\n[structural]\n"a" = "w.reshape(rows, 2, -1).permute(1, 0, 2).reshape(-1, 6)"\n'
        '"b" = "w.reshape(2 * rows, -1)"',
        {"w": (4, 12)},
        {"a": (8, 6), "b": (8, 6)},
        {},
    ),
    "exceptions": (
        '[structural]\n"h.{i}.{x:q|k}.w" = "l.{i}.{x}.w"\n"h.0.{x:q|k}.w" = "l.0.{x}.v"\n"h.1.q.w" = "first.w"\n'
        '"h.2.k.w" = "second.w"\n"h.{i}.o" = "l.{i}.o"\n"h.0.o" = "o"\n"h.2.o" = "p"',
        {key: (2,) for key in "first.w second.w l.0.q.v l.0.k.v l.1.k.w l.2.q.w l.1.o o p".split()},
        {f"h.{i}.{x}": (2,) for i in range(3) for x in ("q.w", "k.w", "o")},
        {},
    ),
    "layers by number": (
        '[structural]\n"h.{i:0|2}.w" = "l.{i + 1}.w"\n"h.{i:1}.w" = "m.{2 * i}.w"',
        {"l.1.w": (2,), "l.3.w": (2,), "m.2.w": (2,)},
        {"h.0.w": (2,), "h.1.w": (2,), "h.2.w": (2,)},
        {},
    ),
    "a size that follows from others": (
        '[sizes]\nwidth = "source[q][0]"\nheads = "source.config.heads"\n'
        'head_dim = ["source.config.d", "width // heads"]\n'
        '[structural]\n"a" = "q[0:head_dim]"\n"b" = "rotary_pairs(q, heads=heads)"',
        {"q": (12, 2)},
        {"a": (4, 2), "b": (12, 2)},
        {"heads": 3},
    ),
    "keys that are long, or need quotes": (
        f'[structural]\n"a.{{i}}.{LONG}" = "b.{{i}}.{LONG}"\n"c.{{i}}" = "cat(b.{{i}}.{LONG}, b.{{i}}.{LONG}.T)"\n'
        f'"{LONG}" = "1 + {LONG}.x"\n"d" = "cat({LONG}.x, {LONG}.x * {LONG}.x, dim=1)"\n'
        f'"e.{{i}}" = "stack(b.{{i}}.{LONG}.{{n}} for n)"\n'
        f"{QUOTES}",
        {
            f"b.0.{LONG}": (2, 2),
            f"{LONG}.x": (2, 2),
            f"b.0.{LONG}.3": (2,),
            f"b.0.{LONG}.11": (2,),
            'its "odd"': (1,),
        },
        {f"a.0.{LONG}": (2, 2), "c.0": (4, 2), LONG: (2, 2), "d": (2, 4), "e.0": (2, 2), 'f"\\': (1,)},
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_terms_come_out_as_in_automatch(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    body, old, new, sizes = CASES[name]
    rules = rules_of(body)
    source = weights(old, dtype)
    module = module_of(to_python(rules), tmp_path)
    found: dict[str, Tensor] = module.convert(source, **sizes)
    wanted = known(rules, source, new, sizes)
    assert sorted(found) == sorted(wanted) == sorted(new)
    for key, value in wanted.items():
        if key == "b" and name == "constants":
            value = value.float()
        torch.testing.assert_close(found[key], value, check_dtype=name != "constants")


def test_a_number_for_every_layer_is_a_list(tmp_path: Path) -> None:
    rules = rules_of(
        '[sizes]\nheads = "target.layers.{i}.heads"\n[proved]\n"h.{i}.q" = "rotary_pairs(l.{i}.q, heads=heads)"'
    )
    module = module_of(to_python(rules), tmp_path)
    source = weights({"l.0.q": (8, 1), "l.1.q": (8, 1)})
    found = module.convert(source, heads=[2, 1])
    assert found["h.0.q"].flatten().tolist() == source["l.0.q"].flatten()[[0, 2, 1, 3, 4, 6, 5, 7]].tolist()
    assert found["h.1.q"].flatten().tolist() == source["l.1.q"].flatten()[[0, 4, 1, 5, 2, 6, 3, 7]].tolist()


def test_shapes_are_asked_for_where_a_constant_needs_them(tmp_path: Path) -> None:
    rules = rules_of('[structural]\n"h.{i}.bias" = "zeros"\n"h.{i}.weight" = "l.{i}.weight"')
    module = module_of(to_python(rules), tmp_path)
    shapes = {"h.0.bias": (3,), "h.0.weight": (3, 2)}
    found = module.convert(weights({"l.0.weight": (3, 2)}), shapes=shapes)
    assert {key: tuple(value.shape) for key, value in found.items()} == shapes
    assert found["h.0.bias"].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("body", "old", "new"),
    [
        ('"a.{i}" = "b"', ["b"], ["a.1", "a.3"]),
        ('"a.{i}" = "b.{2 * i}"', ["b.0", "b.2"], ["a.0", "a.1"]),
        ('"a.{i}" = "b.{i // 2}"', ["b.0", "b.1"], ["a.0", "a.1", "a.2", "a.3"]),
        (
            '"a.{i}.b.{j}.w" = "c.{2 * i + j}.w"\n"a.{i}.s" = "c.{2 * i}.s"',
            ["c.0.w", "c.1.w", "c.2.w", "c.0.s", "c.2.s"],
            ["a.0.b.0.w", "a.0.b.1.w", "a.1.b.0.w", "a.0.s", "a.1.s"],
        ),
        ('"a.{i}.{j}" = "b.{i - 1}.{j + 3}"', ["b.0.3", "b.1.4"], ["a.1.0", "a.2.1"]),
    ],
)
def test_numbers_that_the_source_does_not_tell_are_those_of_the_target(
    body: str, old: list[str], new: list[str], tmp_path: Path
) -> None:
    rules = rules_of(f"[structural]\n{body}")
    module = module_of(to_python(rules), tmp_path)
    source = weights({key: (2,) for key in old})
    shapes = dict.fromkeys(new, (2,))
    assert_same(module.convert(source, shapes=shapes), known(rules, source, shapes))
    with pytest.raises(ValueError, match=f"missing weights: {old[0]}"):
        module.convert({key: value for key, value in source.items() if key != old[0]}, shapes=shapes)


def test_sizes_of_the_target_are_read_off_its_shapes(tmp_path: Path) -> None:
    rules = rules_of(
        '[sizes]\nrows = "target[h.{i}.{j}.q][0]"\ncolumns = "target[h.*.*.q][1]"\ndepth = "target.count(h.*.1.q)"\n'
        '[structural]\n"h.{i}.{j}.q" = "l.{i}.{j}.qkv[0:rows].reshape(rows, columns)"\n"s" = "l.0.0.s[0:depth]"'
    )
    module = module_of(to_python(rules), tmp_path)
    source = weights({"l.0.0.qkv": (9, 2, 2), "l.0.1.qkv": (6, 4), "l.1.1.qkv": (3, 4), "l.0.0.s": (4,)})
    shapes = {"h.0.0.q": (3, 4), "h.0.1.q": (2, 4), "h.1.1.q": (1, 4), "s": (2,)}
    assert_same(module.convert(source, shapes=shapes), known(rules, source, shapes))


def test_what_is_optional_may_be_missing(tmp_path: Path) -> None:
    rules = rules_of(
        '[structural]\n"h.{i}.w" = "l.{i}.w"\n"h.{i}.up.w" = "l.{i}.up.w.T"\n"h.{i}.s" = "stack(l.{i}.e.{e}.w for e)"\n'
        '"head" = "head"\n"embed" = "wte"'
    )
    optional = ["h.{i}.up.w", "h.{i}.s", "head"]
    with pytest.raises(RulesError, match=r"l\.{i}\.s"):
        to_python(rules, ["l.{i}.s"])
    module = module_of(to_python(rules, optional), tmp_path)
    source = weights({"l.0.w": (2,), "l.1.w": (2,), "l.0.up.w": (2, 3), "l.1.e.0.w": (2,), "wte": (2,)})
    assert sorted(module.convert(source)) == ["embed", "h.0.up.w", "h.0.w", "h.1.s", "h.1.w"]
    for key in ("l.1.w", "wte"):
        with pytest.raises(ValueError, match="missing weights"):
            module.convert({name: value for name, value in source.items() if name != key})


def test_names_that_do_not_change_are_said_not_to_protect(tmp_path: Path) -> None:
    text = to_python(rules_of('[proved]\n"l.{i}.q" = "rotary_pairs(l.{i}.q, heads=2)"'))
    assert "nobody notices where they are converted twice" in " ".join(text.split())
    source = weights({"l.0.q": (8,)})
    once = module_of(text, tmp_path).convert(source)
    assert once["l.0.q"].tolist() == source["l.0.q"][[0, 2, 1, 3, 4, 6, 5, 7]].tolist()


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        ('"a" = "resize(b)"\n"c" = "d"\n"e" = "cat(zeros, d)"', ["a: a resized weight", "e: a fill"]),
        ('"a.{torch}" = "b.{torch}"', ["torch cannot be a variable in code"]),
        ('"a.{i}.{j}" = "b.{i}.{j}"\n"a.{i}.{i}" = "c.{i}"', ["a.{i}.{j} and a.{i}.{i} speak of the same keys"]),
    ],
)
def test_what_cannot_be_written_is_refused_with_all_reasons(body: str, problems: list[str]) -> None:
    rules = rules_of(f"[structural]\n{body}")
    with pytest.raises(RulesError, match="cannot be written as a Python function") as caught:
        to_python(rules)
    assert [problem for problem in problems if problem not in str(caught.value)] == []


def test_text_of_the_rules_cannot_become_code(tmp_path: Path) -> None:
    rules = rules_of(
        'source = "x\\"\\"\\"\\nimport os\\n"\nnotes = ["\\"\\"\\" + boom() + \\"\\"\\""]\n[guessed]\n'
        '"a" = {is = "b", because = "one\\nraise SystemExit"}\n[unmapped]\n"c" = "\\"\\"\\"\\nboom()"\n'
        '[proved]\n\'d");boom();("\' = \'"e\\");boom();(\\""\''
    )
    module = module_of(to_python(rules), tmp_path)
    found = module.convert({"b": torch.ones(1), 'e");boom();("': torch.zeros(1)})
    assert sorted(found) == ["a", 'd");boom();("']
