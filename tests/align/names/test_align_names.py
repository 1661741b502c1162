from __future__ import annotations

import pytest

from automatch.align.names import align_names
from automatch.core.alignment import Assignment, Piece, Region, View
from automatch.core.graph import Graph
from automatch.errors import PolicyError
from tests.align.names import keylists
from tests.align.names.keylists import Keys, graph

Expected = dict[str, tuple[str | None, ...]]


def align(source: Keys, target: Keys) -> dict[str, Assignment]:
    return {found.target: found for found in align_names(graph(source), graph(target)).assignments}


def sources(found: Assignment) -> tuple[str | None, ...]:
    return tuple(piece.source for piece in found.pieces)


def pairs(source: str, target: str, table: dict[str, str | None]) -> Expected:
    """Expected sources of weights and biases, from `target module: source module` below two prefixes."""
    return {
        f"{target}{new}.{kind}": (None,) if old is None else (f"{source}{old}.{kind}",)
        for new, old in table.items()
        for kind in ("weight", "bias")
    }


BERT: Expected = {
    "tok.weight": ("bert.embeddings.word_embeddings.weight",),
    "pos.weight": ("bert.embeddings.position_embeddings.weight",),
    "encoder.layers.2.self_attn.in_proj_bias": tuple(
        f"bert.encoder.layer.6.attention.self.{role}.bias" for role in ("query", "key", "value")
    ),
} | pairs(
    "bert.encoder.layer.6.",
    "encoder.layers.2.",
    {
        "self_attn.out_proj": "attention.output.dense",
        "linear1": "intermediate.dense",
        "linear2": "output.dense",
        "norm1": "attention.output.LayerNorm",
        "norm2": "output.LayerNorm",
    },
)
LLAMA: Expected = {
    "tok_emb.weight": ("model.embed_tokens.weight",),
    "h.1.attn.qkv.weight": tuple(f"model.layers.5.self_attn.{role}_proj.weight" for role in "qkv"),
    "h.1.attn.qkv.bias": (None,),
    "h.1.attn.proj.weight": ("model.layers.5.self_attn.o_proj.weight",),
    "h.1.ln_1.weight": ("model.layers.5.input_layernorm.weight",),
    "h.1.ln_2.weight": ("model.layers.5.post_attention_layernorm.weight",),
    "h.1.ln_2.bias": (None,),
    "h.1.mlp.fc2.weight": ("model.layers.5.mlp.down_proj.weight",),
    "ln_f.weight": ("model.norm.weight",),
    "head.weight": ("lm_head.weight",),
}
VIT: Expected = {
    "class_embedding": ("cls_token",),
    "position_embedding": ("pos_embed",),
    "layers.1.attention.k.weight": ("blocks.3.attn.qkv.weight",),
} | pairs(
    "",
    "",
    {
        "patch": "patch_embed.proj",
        "layers.1.ln_before": "blocks.3.norm1",
        "layers.1.ln_after": "blocks.3.norm2",
        "layers.1.attention.out": "blocks.3.attn.proj",
        "layers.1.ffn.0": "blocks.3.mlp.fc1",
        "layers.1.ffn.2": "blocks.3.mlp.fc2",
        "ln_final": "norm",
        "classifier": "head",
    },
)
WHISPER: Expected = {
    "conv1.weight": ("model.encoder.conv1.weight",),
    "conv2.weight": ("model.encoder.conv2.weight",),
    "tokens.weight": ("model.decoder.embed_tokens.weight",),
    "transformer.encoder.layers.1.self_attn.in_proj_bias": (
        "model.encoder.layers.2.self_attn.q_proj.bias",
        None,
        "model.encoder.layers.2.self_attn.v_proj.bias",
    ),
    "transformer.decoder.layers.1.multihead_attn.in_proj_weight": tuple(
        f"model.decoder.layers.3.encoder_attn.{role}_proj.weight" for role in "qkv"
    ),
} | pairs(
    "model.decoder.layers.3.",
    "transformer.decoder.layers.1.",
    {
        "self_attn.out_proj": "self_attn.out_proj",
        "multihead_attn.out_proj": "encoder_attn.out_proj",
        "linear1": "fc1",
        "linear2": "fc2",
        "norm1": "self_attn_layer_norm",
        "norm2": "encoder_attn_layer_norm",
        "norm3": "final_layer_norm",
    },
)
RESNET: Expected = (
    {
        "stem.0.weight": ("conv1.weight",),
        "stem.1.running_var": ("bn1.running_var",),
        "stem.1.num_batches_tracked": ("bn1.num_batches_tracked",),
        "stages.2.1.conv_b.weight": ("layer3.3.conv2.weight",),
        "stages.2.1.norm_b.running_mean": ("layer3.3.bn2.running_mean",),
        "stages.3.0.shortcut.0.weight": ("layer4.0.downsample.0.weight",),
    }
    | pairs("layer4.0.", "stages.3.0.", {"shortcut.1": "downsample.1", "norm_a": "bn1"})
    | pairs("", "", {"classifier": "fc"})
)


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        pytest.param(keylists.bert(), keylists.torch_encoder(), BERT, id="bert onto nn.TransformerEncoder"),
        pytest.param(keylists.llama(), keylists.gpt(), LLAMA, id="grouped-query decoder onto fused qkv"),
        pytest.param(
            keylists.vit(), keylists.small_vit(), VIT, id="fused vision transformer onto separate projections"
        ),
        pytest.param(keylists.whisper(), keylists.torch_transformer(), WHISPER, id="whisper onto nn.Transformer"),
        pytest.param(keylists.resnet(), keylists.small_resnet(), RESNET, id="resnet onto a shallower one"),
    ],
)
def test_teachers_give_their_students_the_weights_of_the_same_role(
    source: Keys, target: Keys, expected: Expected
) -> None:
    found = align(source, target)

    assert {key: sources(found[key]) for key in expected} == expected
    assert list(found) == list(target)


def test_a_model_is_its_own_source_without_a_guess() -> None:
    keys = keylists.whisper()
    found = align(keys, keys)

    assert {key: sources(each) for key, each in found.items()} == {key: (key,) for key in keys}
    assert {each.status for each in found.values()} == {"structural"}


def test_a_fused_source_is_cut_into_the_parts_of_a_split_target() -> None:
    found = align(keylists.vit(), keylists.small_vit())

    views = [found[f"layers.0.attention.{role}.weight"].pieces for role in "qkv"]
    cuts = [(0, 768), (768, 1536), (1536, 2304)]
    assert views == [(Piece("blocks.0.attn.qkv.weight", View((Region(0, *cut),))),) for cut in cuts]


def test_grouped_parts_share_a_fused_axis_by_their_sizes() -> None:
    source: Keys = {f"a.{name}.weight": (rows, 64) for name, rows in (("q", 64), ("k", 16), ("v", 16), ("o", 64))}
    target: Keys = {"a.qkv.weight": (96, 64), "a.o.weight": (64, 64)}

    (fused, _) = align(source, target).values()

    assert [(piece.source, piece.size) for piece in fused.pieces] == [
        ("a.q.weight", 64),
        ("a.k.weight", 16),
        ("a.v.weight", 16),
    ]


def test_the_order_of_a_fusion_follows_the_name_that_spells_it() -> None:
    source: Keys = {"mlp.gate.weight": (32, 8), "mlp.up.weight": (32, 8), "mlp.down.weight": (8, 32)}
    target: Keys = {"mlp.up_gate.weight": (64, 8), "mlp.down.weight": (8, 32)}

    assert sources(align(source, target)["mlp.up_gate.weight"]) == ("mlp.up.weight", "mlp.gate.weight")


def test_transposed_storage_is_read_transposed_and_squares_follow_but_are_guessed() -> None:
    source: Keys = {}
    target: Keys = {}
    for i in range(3):
        source |= {f"h.{i}.up.weight": (8, 32), f"h.{i}.down.weight": (32, 8), f"h.{i}.proj.weight": (8, 8)}
        target |= {f"h.{i}.up.weight": (32, 8), f"h.{i}.down.weight": (8, 32), f"h.{i}.proj.weight": (8, 8)}
    found = align(source, target)

    assert {each.pieces[0].view.axes for each in found.values()} == {(1, 0)}
    assert found["h.0.up.weight"].status == "structural"
    assert found["h.0.proj.weight"].status == "guessed"
    assert "square" in found["h.0.proj.weight"].evidence.rivals[0].reason


@pytest.mark.parametrize(
    ("missing", "source", "target", "refused"),
    [
        ("position_embeddings", keylists.bert(), keylists.torch_encoder(), "pos.weight"),
        ("pos_embed", keylists.vit(), keylists.small_vit(), "position_embedding"),
        ("lm_head", keylists.llama(), keylists.gpt(), "head.weight"),
        (
            "encoder_attn",
            keylists.whisper(),
            keylists.torch_transformer(),
            "transformer.decoder.layers.0.multihead_attn.in_proj_weight",
        ),
    ],
)
def test_what_the_teacher_lacks_is_refused_with_what_came_closest(
    missing: str, source: Keys, target: Keys, refused: str
) -> None:
    found = align({key: shape for key, shape in source.items() if missing not in key}, target)[refused]

    assert found.status == "unmapped"
    assert found.pieces == ()
    assert found.evidence.reasons[0].startswith("no source weight fits; the closest by name is ")


def test_a_bias_is_no_surer_than_the_weight_it_goes_with() -> None:
    found = align(keylists.resnet(), keylists.small_resnet())

    for key, each in found.items():
        module, _, kind = key.rpartition(".")
        if kind != "weight" and each.status == "structural":
            assert found[f"{module}.weight"].status == "structural", key


def test_a_bias_never_leaves_the_weight_of_its_own_module() -> None:
    source: Keys = {"a.norm1.weight": (8,), "a.norm2.weight": (8,), "a.norm3.weight": (8,), "a.norm3.bias": (8,)}
    target: Keys = {"a.norm1.weight": (8,), "a.norm1.bias": (8,), "a.norm2.weight": (8,), "a.norm2.bias": (8,)}

    found = align(source, target)

    assert sources(found["a.norm1.weight"]) == ("a.norm1.weight",)
    assert found["a.norm1.bias"].pieces == (Piece(None, value=0.0),)


def test_numbers_that_contradict_each_other_are_no_sure_match() -> None:
    source: Keys = {"a.norm3.weight": (8,), "b.weight": (8, 8)}
    target: Keys = {"a.norm1.weight": (8,), "a.norm2.weight": (8,), "b.weight": (8, 8)}

    found = align(source, target)

    assert "structural" not in {found["a.norm1.weight"].status, found["a.norm2.weight"].status}
    assert found["b.weight"].status == "structural"


def test_an_explicit_list_of_layers_is_followed() -> None:
    source, target = graph(keylists.vit(layers=6)), graph(keylists.vit(layers=2))

    alignment = align_names(source, target, layers=[5, 1])

    assert alignment.chains[0].layers == (5, 1)
    found = {each.target: sources(each) for each in alignment.assignments}
    assert found["blocks.0.mlp.fc1.weight"] == ("blocks.5.mlp.fc1.weight",)


@pytest.mark.parametrize("layers", [[0, 1, 2], [0, 9], "middle"])
def test_a_policy_that_fits_no_chain_is_an_error(layers: list[int] | str) -> None:
    with pytest.raises(PolicyError, match="layer"):
        align_names(graph(keylists.vit(layers=6)), graph(keylists.vit(layers=2)), layers=layers)  # type: ignore[arg-type]


def test_a_list_of_layers_without_repeated_blocks_is_an_error() -> None:
    keys = keylists.linear("head", 4, 4)
    with pytest.raises(PolicyError, match="no repeated blocks"):
        align_names(graph(keys), graph(keys), layers=[0, 1])


def test_layers_numbered_from_one_are_paired_with_layers_numbered_from_zero() -> None:
    source: Keys = {f"l.{i + 1}.{name}.weight": (8, 8) for i in range(4) for name in ("a", "b")}
    target: Keys = {f"l.{i}.{name}.weight": (8, 8) for i in range(4) for name in ("a", "b")}

    found = align(source, target)

    assert sources(found["l.0.a.weight"]) == ("l.1.a.weight",)
    assert found["l.0.a.weight"].evidence.source_layer == 0


def test_a_list_on_one_side_and_numbered_names_on_the_other_are_matched_key_by_key() -> None:
    source = keylists.linear("mid.block_1", 8, 8) | keylists.linear("mid.block_2", 8, 8)
    source |= keylists.linear("stem", 8, 3)
    target = keylists.linear("mid.blocks.0", 8, 8) | keylists.linear("mid.blocks.1", 8, 8)
    target |= keylists.linear("stem", 8, 3)

    found = align(source, target)

    assert sources(found["mid.blocks.0.weight"]) == ("mid.block_1.weight",)
    assert sources(found["mid.blocks.1.bias"]) == ("mid.block_2.bias",)


def test_forms_tell_tables_from_matrices_and_vectors() -> None:
    found = align(keylists.bert(), keylists.torch_encoder())
    keys: Keys = {"embed_tokens.weight": (100, 8), "up.weight": (16, 8), "norm.weight": (8,), "scale": ()}

    forms = {key: each.form for key, each in align(keys, keys).items()}

    assert forms == {"embed_tokens.weight": "table", "up.weight": "matrix", "norm.weight": "vector", "scale": "other"}
    assert found["encoder.layers.0.linear1.weight"].form == "matrix"


def test_empty_sides_are_answered() -> None:
    target = graph(keylists.linear("head", 4, 4))

    assert align_names(target, Graph(())).assignments == ()
    reasons = [each.evidence.reasons for each in align_names(Graph(()), target).assignments]
    assert reasons == [("the source has no weights",)] * 2


def test_evidence_is_complete() -> None:
    for each in align(keylists.llama(), keylists.gpt()).values():
        assert each.evidence.method == "names"
        assert each.evidence.reasons
        assert (each.status == "unmapped") == (not each.pieces)
        if each.pieces and each.pieces[0].source is not None:
            assert each.evidence.cost is not None
            assert 0.0 <= each.evidence.cost <= 1.0


def test_numbers_that_start_elsewhere_are_matched_by_rank() -> None:
    def convolutions(first: int) -> Keys:
        keys: Keys = {}
        for i in range(2):
            for n in (first, first + 1):
                keys |= {f"net.body.stages.{i}.layer.conv{n}.conv.weight": (8, 8, 3, 3)}
                keys |= keylists.norm(f"net.body.stages.{i}.layer.conv{n}.norm", 8)
        return keys

    found = align(convolutions(2), convolutions(1))

    for n in (1, 2):
        for leaf in ("conv.weight", "norm.weight", "norm.bias"):
            inside = f"net.body.stages.1.layer.conv{{}}.{leaf}"
            assert sources(found[inside.format(n)]) == (inside.format(n + 1),)
            assert found[inside.format(n)].status == "structural"


def test_parts_are_joined_in_the_order_of_initials() -> None:
    target: Keys = {f"attn.{name}_proj.weight": (8, 8) for name in ("q", "k", "v", "gate")}
    found = align({"attn.gqkv_proj.weight": (32, 8)}, target)

    order = ["gate", "q", "k", "v"]
    for at, name in enumerate(order):
        (piece,) = found[f"attn.{name}_proj.weight"].pieces
        assert piece == Piece("attn.gqkv_proj.weight", View((Region(0, 8 * at, 8 * at + 8),)))
        assert found[f"attn.{name}_proj.weight"].status == "guessed"


def test_a_layer_takes_what_its_own_source_layer_has() -> None:
    source: Keys = {}
    for i in range(2):
        source |= keylists.linear(f"layers.{i}.mlp.up", 16, 8) | keylists.linear(f"layers.{i}.mlp.down", 8, 16)
        source |= keylists.norm(f"layers.{i}.norm", 8)
    for name in "qkvo":
        source |= keylists.linear(f"layers.0.attn.{name}_proj", 8, 8)
    source |= keylists.linear("layers.1.attn.qkv_proj", 32, 8)

    found = align(source, source)

    assert all(sources(each) == (key,) for key, each in found.items())


def test_an_axis_of_one_more_is_dropped_by_reshaping() -> None:
    found = align({"experts.down_proj": (1, 8, 4)}, {"experts.down_proj": (8, 4)})

    assert found["experts.down_proj"].pieces == (Piece("experts.down_proj", View(shape=(8, 4))),)
