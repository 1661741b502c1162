"""The pairs of models, as a user of their libraries makes them: real numbers, evaluation mode, random but for one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tests.benchmarks.ordinary import references
from tests.benchmarks.ordinary.libraries import library
from tests.benchmarks.ordinary.references import State

Reference = Callable[[State, State], dict[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two models to match.

    Attributes:
        source: The source.
        target: The target.
        inputs: Example inputs `(args, kwargs)` of both.
        reference: The target's state dict from the source's, and the target's for names and shapes; None where the two
            are different functions, and each weight of the target belongs to its namesake.
    """

    source: nn.Module
    target: nn.Module
    inputs: Any
    reference: Reference | None


def timm_to(name: str, other: Callable[[], Any], reference: Reference) -> Pair:
    """A model of timm onto another library's."""
    return _pair(_timm(name), other(), _image(), reference)


def to_timm(other: Callable[[], Any], name: str, reference: Reference) -> Pair:
    """Another library's model onto timm's."""
    return _pair(other(), _timm(name), _image(), reference)


def student(teacher: str, smaller: str) -> Pair:
    """A model of timm onto a narrower one of its own family, whose weights have the same names."""
    return _pair(_timm(teacher), _timm(smaller), _image(), None)


def torchvision(name: str) -> Any:
    """A model of torchvision."""
    return library("torchvision").models.get_model(name)


def small_vit() -> Any:
    """ViT-S/16 of transformers, as timm has it."""
    transformers = library("transformers")
    config = transformers.ViTConfig(
        hidden_size=384, num_attention_heads=6, intermediate_size=1536, num_labels=1000, layer_norm_eps=1e-6
    )
    return transformers.ViTForImageClassification(config)


def gpt2() -> Pair:
    """GPT-2 onto its own class."""
    transformers = library("transformers")
    config = transformers.GPT2Config(use_cache=False)
    source, target = (transformers.GPT2LMHeadModel(config) for _ in range(2))
    return _pair(source, target, _tokens(0, config.vocab_size), references.same_names)


def roberta_to_bert() -> Pair:
    """RoBERTa-base onto BERT-base: no token of the first five, which RoBERTa takes for padding and the like."""
    transformers, sizes = library("transformers"), {"vocab_size": 50265, "type_vocab_size": 1}
    source = transformers.RobertaModel(transformers.RobertaConfig(**sizes, max_position_embeddings=514))
    target = transformers.BertModel(transformers.BertConfig(**sizes))
    return _pair(source, target, _tokens(5, sizes["vocab_size"]), references.roberta_to_bert)


def sentence_encoder() -> Pair:
    """The trained encoder that `tests/sentences` converts."""
    from fixtures import sentences
    from tests.sentences.trained import trained_weights

    source = sentences.teacher()
    source.load_state_dict(trained_weights(), strict=True)
    return Pair(source, sentences.student(), sentences.teacher_inputs(), references.sentence_encoder)


def llama_to_fused() -> Pair:
    """Some 200 million numbers a side, onto an implementation with fused projections and other rotary positions."""
    from fixtures.decoder import LlamaConfig
    from fixtures.twins_dense import FusedDecoder

    transformers = library("transformers")
    ours = LlamaConfig(
        vocabulary=32000, dim=1024, ffn_dim=2816, heads=16, kv_heads=4, layers=12, theta=10000.0, eps=1e-6
    )
    config = transformers.LlamaConfig(
        vocab_size=ours.vocabulary,
        hidden_size=ours.dim,
        intermediate_size=ours.ffn_dim,
        num_hidden_layers=ours.layers,
        num_attention_heads=ours.heads,
        num_key_value_heads=ours.kv_heads,
        rms_norm_eps=ours.eps,
        use_cache=False,
    )
    reference = partial(references.llama_to_fused, groups=ours.kv_heads, width=ours.dim // ours.heads)
    source = transformers.LlamaForCausalLM(config)
    return _pair(source, FusedDecoder(ours), _tokens(0, ours.vocabulary), reference)


def _timm(name: str) -> Any:
    return library("timm").create_model(name)


def _pair(source: Any, target: Any, inputs: Any, reference: Reference | None) -> Pair:
    return Pair(source.eval(), target.eval(), inputs, reference)


def _image() -> Any:
    return (torch.randn(1, 3, 224, 224),), {}


def _tokens(low: int, high: int) -> Any:
    return (torch.randint(low, high, (2, 16)),), {}
