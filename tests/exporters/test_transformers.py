"""Emitted conversions, registered: transformers loads original checkpoints with them, and writes them back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from automatch.errors import RulesError
from automatch.exporters.transformers import to_transformers
from automatch.rules.ruleset import RuleSet
from tests.exporters.support import assert_same, module_of, rules_of

transformers = pytest.importorskip("transformers", reason="the extra `ecosystem` is not installed")
Weights = dict[str, Tensor]
IDS = torch.arange(12).reshape(2, 6) * 5 % 64
COMMON = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
}


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    """What is registered in a test is forgotten after it."""
    conversion_mapping: Any = import_module("transformers.conversion_mapping")
    conversion_mapping.get_checkpoint_conversion_mapping("llama")  # fills the cache
    before = dict(conversion_mapping._checkpoint_conversion_mapping_cache)
    registered = set(conversion_mapping.USER_REGISTERED_MAPPINGS)
    yield
    conversion_mapping._checkpoint_conversion_mapping_cache = before
    conversion_mapping.USER_REGISTERED_MAPPINGS.clear()
    conversion_mapping.USER_REGISTERED_MAPPINGS.update(registered)


def llama(tied: bool = False, **changed: Any) -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(**{**COMMON, "num_key_value_heads": 2, "tie_word_embeddings": tied, **changed})
    return transformers.LlamaForCausalLM(config).eval()


def mixtral() -> Any:
    torch.manual_seed(0)
    config = transformers.MixtralConfig(**COMMON, num_key_value_heads=2, num_local_experts=11, num_experts_per_tok=2)
    return transformers.MixtralForCausalLM(config).eval()


def neox() -> Any:
    torch.manual_seed(0)
    return transformers.GPTNeoXForCausalLM(transformers.GPTNeoXConfig(**COMMON, rotary_pct=0.5)).eval()


def output(model: Any) -> Tensor:
    with torch.no_grad():
        found = model(IDS)
    value: Tensor = found.logits if hasattr(found, "logits") else found.last_hidden_state
    return value


def saved(model: Any, weights: Weights, folder: Path) -> Path:
    """A checkpoint of these weights with the model's configuration."""
    folder.mkdir()
    model.config.save_pretrained(folder)
    save_file(
        {key: value.contiguous() for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return folder


def loaded(kind: Any, folder: Path) -> Any:
    """The model from a checkpoint, of which no key is missing or too many."""
    model, told = kind.from_pretrained(folder, output_loading_info=True)
    assert [told[each] for each in ("missing_keys", "unexpected_keys", "mismatched_keys")] == [set(), set(), set()]
    return model.eval()


def assert_both_ways(rules: RuleSet, model: Any, original: Weights, tmp_path: Path, **sizes: int) -> Any:
    """The original checkpoint loads with equal outputs, is written back, and the model's own format still loads."""
    model.save_pretrained(tmp_path / "own")
    own = loaded(type(model), tmp_path / "own")
    module_of(to_transformers(rules), tmp_path).register(type(model).__name__, **sizes)
    found = loaded(type(model), saved(model, original, tmp_path / "original"))
    assert torch.equal(output(found), output(own))
    assert_same(found.state_dict(), model.state_dict())
    assert torch.equal(output(loaded(type(model), tmp_path / "own")), output(own))
    found.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert_same(again, original)
    assert torch.equal(output(loaded(type(model), tmp_path / "again")), output(own))
    return found


def halves_to_pairs(weight: Tensor, heads: int) -> Tensor:
    """Rotary entries as the first LLaMA code had them, beside each other."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


PUBLISHED = """
source = "LLaMA as published"
target = "LlamaForCausalLM"
[sizes]
heads = {read = ["source.config.n_heads", "target.config.num_attention_heads"], example = 32}
kv_heads = {read = ["target.config.num_key_value_heads"], otherwise = "target.config.num_attention_heads"}
[proved]
"model.embed_tokens.weight" = "tok_embeddings.weight"
"model.norm.weight" = "norm.weight"
"model.layers.{i}.self_attn.q_proj.weight" = "rotary_halves(layers.{i}.attention.wq.weight, heads=heads)"
"model.layers.{i}.self_attn.k_proj.weight" = "rotary_halves(layers.{i}.attention.wk.weight, heads=kv_heads)"
"model.layers.{i}.self_attn.{x:v|o}_proj.weight" = "layers.{i}.attention.w{x}.weight"
"model.layers.{i}.mlp.gate_proj.weight" = "layers.{i}.feed_forward.w1.weight"
"model.layers.{i}.mlp.down_proj.weight" = "layers.{i}.feed_forward.w2.weight.T"
"model.layers.{i}.mlp.up_proj.weight" = "layers.{i}.feed_forward.w3.weight"
"model.layers.{i}.input_layernorm.weight" = "layers.{i}.attention_norm.weight"
"model.layers.{i}.post_attention_layernorm.weight" = "layers.{i}.ffn_norm.weight"
"""
UNTIED = rules_of(f'{PUBLISHED}\n"lm_head.weight" = "output.weight"')
TIED = rules_of(f'{PUBLISHED}\n"lm_head.weight" = "tok_embeddings.weight"')


def published(model: Any, kv_heads: int = 2) -> Weights:
    """A Llama's weights in the form that the first code had."""
    weights = {}
    names = {
        "self_attn.v_proj": "attention.wv",
        "self_attn.o_proj": "attention.wo",
        "mlp.gate_proj": "feed_forward.w1",
        "mlp.up_proj": "feed_forward.w3",
        "input_layernorm": "attention_norm",
        "post_attention_layernorm": "ffn_norm",
        "model.embed_tokens": "tok_embeddings",
        "lm_head": "output",
    }
    for key, value in model.state_dict().items():
        name = key
        for new, old in names.items():
            name = name.replace(new, old)
        name = name.removeprefix("model.")
        if "q_proj" in key:
            name, value = name.replace("self_attn.q_proj", "attention.wq"), halves_to_pairs(value, 4)
        if "k_proj" in key:
            name, value = name.replace("self_attn.k_proj", "attention.wk"), halves_to_pairs(value, kv_heads)
        if "down_proj" in key:
            name, value = name.replace("mlp.down_proj", "feed_forward.w2"), value.T
        weights[name] = value
    return weights


def test_a_llama_with_grouped_queries_in_rotary_pairs(tmp_path: Path) -> None:
    model = llama()
    assert_both_ways(UNTIED, model, published(model), tmp_path)


def test_a_tied_llama_whose_checkpoint_has_one_of_both(tmp_path: Path) -> None:
    model = llama(tied=True)
    original = published(model)
    del original["output.weight"]
    found = assert_both_ways(TIED, model, original, tmp_path)
    assert found.lm_head.weight is found.model.embed_tokens.weight


def test_an_untied_llama_from_a_tied_checkpoint(tmp_path: Path) -> None:
    model = llama()
    with torch.no_grad():
        model.lm_head.weight.copy_(model.model.embed_tokens.weight)
    original = published(model)
    del original["output.weight"]
    found = assert_both_ways(TIED, model, original, tmp_path)
    assert found.lm_head.weight.data_ptr() != found.model.embed_tokens.weight.data_ptr()
    with torch.no_grad():
        found.lm_head.weight[0, 0] += 1
    with pytest.raises(ValueError, match=r"lm_head\.weight differs where it was the same weight as another"):
        found.save_pretrained(tmp_path / "parted")


def test_the_model_without_its_head_loads_as_well(tmp_path: Path) -> None:
    model = llama(tied=True)
    original = published(model)
    del original["output.weight"]
    module_of(to_transformers(UNTIED), tmp_path).register("llama")
    found = loaded(transformers.LlamaModel, saved(model, original, tmp_path / "original"))
    assert torch.equal(output(found), output(model.model))


def test_more_layers_than_ten(tmp_path: Path) -> None:
    model = llama(num_hidden_layers=12)
    assert_both_ways(UNTIED, model, published(model), tmp_path)


def test_bits_survive_in_bfloat16(tmp_path: Path) -> None:
    model = llama().to(torch.bfloat16)
    with torch.no_grad():
        model.model.layers[0].self_attn.q_proj.weight[0] = -0.0
    original = published(model)
    found = assert_both_ways(UNTIED, model, original, tmp_path)
    assert found.dtype == torch.bfloat16
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert all(
        torch.equal(value.view(torch.int16), original[key].contiguous().view(torch.int16))
        for key, value in again.items()
    )


def mixture(model: Any) -> Weights:
    """A Mixtral's weights with a module an expert."""
    weights = {}
    for key, value in model.state_dict().items():
        name = key.replace("model.layers.", "blocks.").replace("mlp.gate.", "moe.router.")
        if "gate_up_proj" in key:
            for number, expert in enumerate(value):
                weights[name.replace("mlp.experts.gate_up_proj", f"moe.experts.{number}.w1.weight")] = expert[:48]
                weights[name.replace("mlp.experts.gate_up_proj", f"moe.experts.{number}.w3.weight")] = expert[48:]
        elif "down_proj" in key:
            for number, expert in enumerate(value):
                weights[name.replace("mlp.experts.down_proj", f"moe.experts.{number}.w2.weight")] = expert
        else:
            weights[name] = value
    return {key: value.clone() for key, value in weights.items()}


EXPERT = "blocks.{i}.moe.experts.{e}"
MIXTURE = """
[proved]
"model.embed_tokens.weight" = "model.embed_tokens.weight"
"model.norm.weight" = "model.norm.weight"
"lm_head.weight" = "lm_head.weight"
"model.layers.{i}.self_attn.{x:q|k|v|o}_proj.weight" = "blocks.{i}.self_attn.{x}_proj.weight"
"model.layers.{i}.{x:input|post_attention}_layernorm.weight" = "blocks.{i}.{x}_layernorm.weight"
"model.layers.{i}.mlp.gate.weight" = "blocks.{i}.moe.router.weight"
"model.layers.{i}.mlp.experts.down_proj" = "stack(blocks.{i}.moe.experts.{e}.w2.weight for e)"
"model.layers.{i}.mlp.experts.gate_up_proj" = """


@pytest.mark.parametrize(
    "both",
    [
        f"stack(cat({EXPERT}.w1.weight, {EXPERT}.w3.weight) for e)",
        f"cat(stack({EXPERT}.w1.weight for e), stack({EXPERT}.w3.weight for e), dim=1)",
    ],
)
@pytest.mark.parametrize("name", ["MixtralForCausalLM", "mixtral"])
def test_experts_are_stacked_and_taken_apart(both: str, name: str, tmp_path: Path) -> None:
    model = mixtral()
    rules = rules_of(f'{MIXTURE}"{both}"')
    text = to_transformers(rules)
    assert "operations=[\n                LayerNames(),\n                MergeModulelist(dim=0),\n" in text
    assert "Rearrange" not in text
    assert_both_ways(rules, model, mixture(model), tmp_path)


def test_experts_stored_transposed(tmp_path: Path) -> None:
    model = mixtral()
    both = f"cat(stack({EXPERT}.w1.weight.T for e), stack({EXPERT}.w3.weight for e), dim=1)"
    original = {key: value.T.contiguous() if "w1" in key else value for key, value in mixture(model).items()}
    assert_both_ways(rules_of(f'{MIXTURE}"{both}"'), model, original, tmp_path)


def test_parts_of_different_sizes_are_not_joined_by_what_splits_evenly(tmp_path: Path) -> None:
    model = mixtral()
    both = "stack(cat(blocks.{i}.moe.experts.{e}.w1.weight, blocks.{i}.moe.experts.{e}.w3.weight) for e)"
    original = {}
    for key, value in mixture(model).items():
        original[key] = value[:40] if "w1" in key else value
        if "w3" in key:
            first = mixture(model)[key.replace("w3", "w1")]
            original[key] = torch.cat([first[40:], value])
    module_of(to_transformers(rules_of(f'{MIXTURE}"{both}"')), tmp_path).register("mixtral")
    with pytest.raises(RuntimeError, match="conversion"):
        type(model).from_pretrained(saved(model, original, tmp_path / "original"))


def split(model: Any) -> Weights:
    """A GPT-NeoX's weights with a projection each for queries, keys and values."""
    weights = {}
    for key, value in model.state_dict().items():
        name = key.removeprefix("gpt_neox.").replace("layers.", "h.")
        if "query_key_value" not in key:
            weights[name] = value
            continue
        parts = value.unflatten(0, (4, 3, 8)).unbind(1)
        for letter, part in zip("qkv", parts, strict=True):
            weights[name.replace("query_key_value", letter)] = part.flatten(0, 1).clone()
    return weights


def test_queries_keys_and_values_interleaved_by_head(tmp_path: Path) -> None:
    model = neox()
    others = "attention.dense|mlp.dense_h_to_4h|mlp.dense_4h_to_h|input_layernorm|post_attention_layernorm".split("|")
    lines = [f'"gpt_neox.layers.{{i}}.{each}.{{w:weight|bias}}" = "h.{{i}}.{each}.{{w}}"' for each in others]
    rules = rules_of(
        '[sizes]\nheads = "target.config.num_attention_heads"\n[proved]\n"lm_head.weight" = "lm_head.weight"\n'
        '"gpt_neox.embed_in.weight" = "embed_in.weight"\n'
        '"gpt_neox.final_layer_norm.{w:weight|bias}" = "final_layer_norm.{w}"\n'
        '"gpt_neox.layers.{i}.attention.query_key_value.{w:weight|bias}" = '
        '"interleave(h.{i}.attention.q.{w}, h.{i}.attention.k.{w}, h.{i}.attention.v.{w}, groups=heads)"\n'
        + "\n".join(lines)
    )
    assert_both_ways(rules, model, split(model), tmp_path)


SAME = """
"model.embed_tokens.weight" = "model.embed_tokens.weight"
"model.norm.weight" = "model.norm.weight"
"lm_head.weight" = "lm_head.weight"
"model.layers.{i}.self_attn.o_proj.weight" = "model.layers.{i}.self_attn.o_proj.weight"
"model.layers.{i}.mlp.{x:gate|up|down}_proj.weight" = "model.layers.{i}.mlp.{x}_proj.weight"
"model.layers.{i}.{x:input|post_attention}_layernorm.weight" = "model.layers.{i}.{x}_layernorm.weight"
"""


def fused(model: Any, join: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Weights:
    """A Llama's weights, queries, keys and values in one."""
    weights = {
        key: value for key, value in model.state_dict().items() if key.split(".")[-2][:2] not in ("q_", "k_", "v_")
    }
    for i in range(3):
        at = f"model.layers.{i}.self_attn"
        parts = [model.state_dict()[f"{at}.{letter}_proj.weight"] for letter in "qkv"]
        weights[f"{at}.qkv.weight"] = join(parts[0], parts[1], parts[2])
    return weights


def test_one_weight_that_is_split_over_three_of_different_sizes(tmp_path: Path) -> None:
    model = llama()
    rules = rules_of(
        '[sizes]\nq = "target.config.hidden_size"\nkv = {read = "source.config.kv_dim", example = 16}\n[proved]'
        + SAME
        + '"model.layers.{i}.self_attn.q_proj.weight" = "model.layers.{i}.self_attn.qkv.weight[0:q]"\n'
        + '"model.layers.{i}.self_attn.k_proj.weight" = "model.layers.{i}.self_attn.qkv.weight[q:q + kv]"\n'
        + '"model.layers.{i}.self_attn.v_proj.weight" = "model.layers.{i}.self_attn.qkv.weight[q + kv:]"\n'
    )
    assert_both_ways(rules, model, fused(model, lambda *parts: torch.cat(parts)), tmp_path, kv=16)


def test_sizes_of_the_target_are_those_of_the_model_at_hand(tmp_path: Path) -> None:
    model = llama(head_dim=4)
    at = "model.layers.{i}.self_attn"
    rules = rules_of(
        f'[sizes]\nq = "target[{at}.q_proj.weight][0]"\nkv = "target[{at}.k_proj.weight][0]"\n[proved]'
        + SAME
        + f'"{at}.q_proj.weight" = "{at}.qkv.weight[0:q]"\n"{at}.k_proj.weight" = "{at}.qkv.weight[q:q + kv]"\n'
        + f'"{at}.v_proj.weight" = "{at}.qkv.weight[q + kv:]"\n'
    )
    assert_both_ways(rules, model, fused(model, lambda *parts: torch.cat(parts)), tmp_path)


def test_one_weight_that_holds_groups_of_heads(tmp_path: Path) -> None:
    """Two query heads, their key head and their value head, group by group."""
    model = llama()
    at = "model.layers.{i}.self_attn"
    whole = f"{at}.qkv.weight.reshape(groups, -1, dim, hidden)"
    rules = rules_of(
        '[sizes]\ngroups = "target.config.num_key_value_heads"\nheads = "target.config.num_attention_heads"\n'
        'hidden = "source[model.layers.*.self_attn.qkv.weight][1]"\ndim = "hidden // heads"\n[proved]'
        + SAME
        + f'"{at}.q_proj.weight" = "{whole}[:, 0:-2].reshape(-1, hidden)"\n'
        + f'"{at}.k_proj.weight" = "{whole}[:, -2].reshape(-1, hidden)"\n'
        + f'"{at}.v_proj.weight" = "{whole}[:, -1].reshape(-1, hidden)"\n'
    )

    def join(*parts: Tensor) -> Tensor:
        return torch.cat([part.reshape(2, -1, 8, 32) for part in parts], dim=1).reshape(-1, 32)

    assert_both_ways(rules, model, fused(model, join), tmp_path)


def test_arithmetic_is_taken_back_up_to_rounding(tmp_path: Path) -> None:
    model = llama()
    same = SAME.replace(
        '"model.norm.weight" = "model.norm.weight"', '"model.norm.weight" = "1 + {scale ** 0.5} * final.weight"'
    )
    rules = rules_of(
        "[sizes]\nscale = 4\n[structural]" + same + '"model.layers.{i}.self_attn.{x:k|v|q}_proj.weight" = '
        '"model.layers.{i}.self_attn.{x}_proj.weight"'
    )
    original = dict(model.state_dict())
    original["final.weight"] = (original.pop("model.norm.weight") - 1) / 2
    module_of(to_transformers(rules), tmp_path).register("llama")
    found = loaded(type(model), saved(model, original, tmp_path / "original"))
    torch.testing.assert_close(output(found), output(model))
    found.save_pretrained(tmp_path / "again")
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert sorted(again) == sorted(original)
    torch.testing.assert_close(again["final.weight"], original["final.weight"])


def test_what_cannot_be_taken_back_is_loaded_and_says_so_when_saved(tmp_path: Path) -> None:
    model = llama()
    same = SAME.replace('"model.norm.weight" = "model.norm.weight"', '"model.norm.weight" = "a.weight * b.weight"')
    rules = rules_of(
        "[structural]" + same + '"model.layers.{i}.self_attn.{x:k|v|q}_proj.weight" = '
        '"model.layers.{i}.self_attn.{x}_proj.weight"'
    )
    text = to_transformers(rules)
    assert "Some weights can be loaded and not be saved again" in text
    original = dict(model.state_dict())
    original["a.weight"], original["b.weight"] = original.pop("model.norm.weight") / 2, torch.full((32,), 2.0)
    module_of(text, tmp_path).register("llama")
    found = loaded(type(model), saved(model, original, tmp_path / "original"))
    torch.testing.assert_close(output(found), output(model))
    with pytest.raises(ValueError, match=r"model\.norm\.weight: its arithmetic cannot be taken back"):
        found.save_pretrained(tmp_path / "again")
    found.save_pretrained(tmp_path / "own", save_original_format=False)
    assert sorted(load_file(tmp_path / "own" / "model.safetensors")) == sorted(model.state_dict())


def test_names_that_change_places_are_not_renamed_one_after_the_other(tmp_path: Path) -> None:
    model = llama()
    same = SAME.replace(
        '{x:gate|up|down}_proj.weight" = "model.layers.{i}.mlp.{x}', 'down_proj.weight" = "model.layers.{i}.mlp.down'
    )
    rules = rules_of(
        "[structural]" + same + '"model.layers.{i}.self_attn.{x:k|v|q}_proj.weight" = '
        '"model.layers.{i}.self_attn.{x}_proj.weight"\n'
        '"model.layers.{i}.mlp.gate_proj.weight" = "model.layers.{i}.mlp.up_proj.weight"\n'
        '"model.layers.{i}.mlp.up_proj.weight" = "model.layers.{i}.mlp.gate_proj.weight"\n'
    )
    swapped = {"gate_proj": "up_proj", "up_proj": "gate_proj"}
    original = {}
    for key, value in model.state_dict().items():
        word = key.split(".")[-2]
        original[key.replace(word, swapped.get(word, word))] = value
    text = to_transformers(rules)
    told = " ".join(text.split())
    assert "Do not load checkpoints in the model's own format" in told
    module_of(text, tmp_path).register("llama")
    found = loaded(type(model), saved(model, original, tmp_path / "original"))
    assert torch.equal(output(found), output(model))
    found.save_pretrained(tmp_path / "again")
    assert_same(load_file(tmp_path / "again" / "model.safetensors"), original)


def test_a_layer_of_its_own(tmp_path: Path) -> None:
    model = llama()
    same = SAME.replace(
        '"model.layers.{i}.self_attn.o',
        '"model.layers.1.self_attn.o_proj.weight" = "second.T"\n"model.layers.{i}.self_attn.o',
        1,
    )
    same = same.replace('= "model.layers.{i}.self_attn.o_proj.weight"', '= "outs.{i}.weight"')
    rules = rules_of(
        "[structural]" + same + '"model.layers.{i}.self_attn.{x:k|v|q}_proj.weight" = '
        '"model.layers.{i}.self_attn.{x}_proj.weight"'
    )
    original = dict(model.state_dict())
    for i in (0, 2):
        original[f"outs.{i}.weight"] = original.pop(f"model.layers.{i}.self_attn.o_proj.weight")
    original["second"] = original.pop("model.layers.1.self_attn.o_proj.weight").T
    assert_both_ways(rules, model, original, tmp_path)


def test_a_weight_that_is_missing_is_reported(tmp_path: Path) -> None:
    model = llama()
    original = published(model)
    del original["layers.1.attention.wq.weight"], original["layers.1.ffn_norm.weight"]
    module_of(to_transformers(UNTIED), tmp_path).register("llama")
    _, told = type(model).from_pretrained(saved(model, original, tmp_path / "original"), output_loading_info=True)
    assert sorted(told["missing_keys"]) == [
        "model.layers.1.post_attention_layernorm.weight",
        "model.layers.1.self_attn.q_proj.weight",
    ]


def test_a_model_that_was_not_loaded_has_no_shapes_to_go_back_to(tmp_path: Path) -> None:
    module_of(to_transformers(UNTIED), tmp_path).register("llama")
    with pytest.raises(ValueError, match="was not loaded from an original checkpoint"):
        llama().save_pretrained(tmp_path / "own")


@pytest.mark.parametrize(
    ("body", "problems"),
    [
        (
            '"a.{i}" = "b.{2 * i}"\n"c.{i}" = "resize(d.{i})"',
            ["a.{i}: b.{2 * i} has a number that is computed", "c.{i}: a resized"],
        ),
        ('"a.{i}.b.{j}" = "c.{i}.d.{j}.T"', ["a.{i}.b.{j}: its numbers stand otherwise in c.{i}.d.{j}"]),
        ('"a.{i}" = "b"\n"c" = "zeros(3)"', ["all layers share a weight", "c: it is made of no weight"]),
        ('"a.b" = "\\"b+c\\""', ["b+c has characters that mean something else"]),
    ],
)
def test_what_transformers_cannot_say_is_refused_with_all_reasons(body: str, problems: list[str]) -> None:
    with pytest.raises(RulesError) as caught:
        to_transformers(rules_of(f"[structural]\n{body}"))
    assert [problem for problem in problems if problem not in str(caught.value)] == []


def test_keys_with_two_numbers_between_which_nothing_changes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"image_size": 16, "patch_size": 2, "embed_dim": 8, "depths": [2, 1], "num_heads": [2, 2], "window_size": 2}
    model = transformers.SwinModel(transformers.SwinConfig(**sizes)).eval()
    rules = rules_of(
        "[proved]\n"
        '"encoder.layers.{i}.blocks.{j}.attention.{x:q|k|v|o}_proj.{w:weight|bias}" = "stages.{i}.blocks.{j}.{x}.{w}"\n'
        '"encoder.layers.{i}.blocks.{j}.mlp.fc1.weight" = "stages.{i}.blocks.{j}.fc1.T"\n'
    )
    original = {}
    for key, value in model.state_dict().items():
        name = key
        for letter in "qkvo":
            name = name.replace(f"attention.{letter}_proj", letter)
        if "mlp.fc1.weight" in key:
            name, value = name.replace("mlp.fc1.weight", "fc1"), value.T
        original[name.replace("encoder.layers", "stages") if name != key else key] = value
    assert sum(key.startswith("stages") for key in original) >= 9
    module_of(to_transformers(rules), tmp_path).register("SwinModel")
    found = loaded(type(model), saved(model, original, tmp_path / "original"))
    assert_same(found.state_dict(), model.state_dict())
    found.save_pretrained(tmp_path / "again")
    assert_same(load_file(tmp_path / "again" / "model.safetensors"), original)


def test_keys_whose_numbers_stand_otherwise_or_are_counted_from_elsewhere(tmp_path: Path) -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 11, "num_attention_heads": 2}
    model = transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**sizes, image_size=16, patch_size=8)).eval()
    rules = rules_of(
        "[proved]\n"
        '"encoder.layers.{i}.layer_norm{j}.{w:weight|bias}" = "blocks.{i + 1}.norm_{j - 1}.{w}"\n'
        '"encoder.layers.{i}.mlp.fc{j}.weight" = "fc.{j}.of.{i}.weight"\n'
    )
    original = {}
    for key, value in model.state_dict().items():
        words = key.split(".")
        if "layer_norm" in key:
            at = words.index("layers") + 1
            key = f"blocks.{int(words[at]) + 1}.norm_{int(words[at + 1][-1]) - 1}.{words[-1]}"
        elif ".fc" in key and words[-1] == "weight":
            key = f"fc.{words[-2][-1]}.of.{words[words.index('layers') + 1]}.weight"
        original[key] = value
    assert {"blocks.11.norm_1.bias", "fc.2.of.10.weight"} <= set(original)
    module_of(to_transformers(rules), tmp_path).register("CLIPVisionModel")
    found = loaded(type(model), saved(model, original, tmp_path / "original"))
    assert_same(found.state_dict(), model.state_dict())
    found.save_pretrained(tmp_path / "again")
    assert_same(load_file(tmp_path / "again" / "model.safetensors"), original)
