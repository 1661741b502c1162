"""One check of what somebody holds against a mapping: every finding named, all of them together."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import automatch
from automatch.apply.fit import _scales
from automatch.cli import main
from automatch.core.expr import Permute, Source
from automatch.errors import MappingError, UnreadWarning
from automatch.mapping import Mapping

State = dict[str, Tensor]


class Model(nn.Module):
    """Two layers and a head, which may be tied to the embedding."""

    def __init__(self, tied: bool = False, names: tuple[str, str, str] = ("emb", "layer", "head")) -> None:
        super().__init__()
        emb, layer, head = names
        self.add_module(emb, nn.Embedding(7, 4))
        self.add_module(layer, nn.Linear(4, 4))
        self.add_module(head, nn.Linear(4, 7, bias=False))
        self.names = names
        if tied:
            self.get_submodule(head).weight = self.get_submodule(emb).weight

    def forward(self, ids: Tensor) -> Tensor:
        emb, layer, head = map(self.get_submodule, self.names)
        made: Tensor = head(layer(emb(ids)).tanh())
        return made


def mapping(source_tied: bool = False, target_tied: bool = False) -> Mapping:
    torch.manual_seed(0)
    ids = torch.tensor([[1, 2, 6, 3]])
    source, target = Model(source_tied), Model(target_tied, ("words", "mix", "out"))
    return automatch.match(source, target, source_inputs=ids, target_inputs=ids)


def state(tied: bool = False) -> State:
    torch.manual_seed(1)
    return {key: value.clone() for key, value in Model(tied).state_dict().items()}


def saved(held: State, folder: Path) -> Path:
    path = folder / "held.safetensors"
    save_file(held, path)
    return path


def ways(held: State, known: Mapping, folder: Path, **options: object) -> list[str]:
    """What every way out says of a state dict: what it raises, or what came of it."""
    path = saved(held, folder)
    model = Model(names=("words", "mix", "out"))

    def dry() -> object:
        from automatch.conversion.convert import Options, prepare

        return prepare(path, known, folder / "dry.safetensors", Options(**options)).plan.notes  # type: ignore[arg-type]

    said = []
    for way in (
        lambda: known.apply(held, **options),  # type: ignore[arg-type]
        lambda: automatch.convert(path, known, folder / "out.safetensors", **options).plan.notes,  # type: ignore[arg-type]
        dry,
        lambda: automatch.load_into(model, path, known, **options).notes,  # type: ignore[arg-type]
    ):
        try:
            said.append(f"fine: {way()}")
        except MappingError as error:
            said.append(str(error))
    return said


def test_what_fits_is_taken_by_every_way(tmp_path: Path) -> None:
    assert all(said.startswith("fine") for said in ways(state(), mapping(), tmp_path))


def strange() -> State:
    return {**state(), "layer.extra_bias": torch.ones(4), "ema.layer.weight": torch.ones(4, 4)}


def test_a_tensor_that_the_mapping_never_knew_is_refused_by_every_way_and_nothing_is_written(tmp_path: Path) -> None:
    for said in ways(strange(), mapping(), tmp_path, allow_unread=()):
        assert "layer.extra_bias: nothing reads it, and the mapping was made without it" in said
        assert "ema.layer.weight: nothing reads it" in said
        assert "--allow-unread" in said
    assert not (tmp_path / "out.safetensors").exists()


def test_where_nobody_says_what_may_be_left_out_it_is_warned_of_and_a_model_is_not_filled(tmp_path: Path) -> None:
    known, path = mapping(), saved(strange(), tmp_path)
    warned = r"nothing reads (layer\.extra_bias, ema\.layer\.weight|ema\.layer\.weight, layer\.extra_bias) of "
    with pytest.warns(UnreadWarning, match=warned) as caught:
        known.apply(strange())
    assert caught[0].filename == __file__
    with pytest.warns(UnreadWarning, match=warned) as caught:
        done = automatch.convert(path, known, tmp_path / "out.safetensors")
    assert caught[0].filename == __file__
    assert sorted(done.plan.unread) == ["ema.layer.weight", "layer.extra_bias"]
    assert "left out, since nothing reads it: layer.extra_bias" in done.plan.notes
    model = Model(names=("words", "mix", "out"))
    with pytest.raises(MappingError, match=r"layer\.extra_bias: nothing reads it"):
        automatch.load_into(model, path, known)
    assert any("layer.extra_bias" in note for note in automatch.load_into(model, path, known, strict=False).notes)


def test_the_command_fails_and_writes_nothing_until_it_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping().save(tmp_path / "m.json")
    words = ["convert", str(saved(strange(), tmp_path)), "--mapping", str(tmp_path / "m.json")]
    words += ["-o", str(tmp_path / "out.safetensors")]
    for dry in ([], ["--dry-run"]):
        assert main([*words, *dry]) == 2
        assert "layer.extra_bias: nothing reads it" in capsys.readouterr().err
        assert not (tmp_path / "out.safetensors").exists()
        assert main([*words, *dry, "--allow-unread", "ema.*", "--allow-unread", "layer.extra_bias"]) == 0
        assert "left out, since nothing reads it: ema.layer.weight" in " ".join(capsys.readouterr().out.split())
        (tmp_path / "out.safetensors").unlink(missing_ok=True)


def test_it_is_left_out_where_a_pattern_names_it_and_said(tmp_path: Path) -> None:
    held = strange()
    said = ways(held, mapping(), tmp_path, allow_unread=("ema.*", "*.extra_bias"))
    assert all(each.startswith("fine") for each in said)
    for each in said[1:]:
        assert "left out, since nothing reads it: ema.layer.weight" in each
    assert all("layer.extra_bias: nothing" in each for each in ways(held, mapping(), tmp_path, allow_unread=("ema.*",)))


def test_what_was_unused_when_the_mapping_was_made_is_left_out_without_an_error(tmp_path: Path) -> None:
    source = {**{key: torch.zeros_like(value) for key, value in state().items()}, "spare.weight": torch.zeros(9)}
    target = {key: value for key, value in source.items() if key != "spare.weight"}
    known = automatch.match(source, target)
    assert known.record.unused == ("spare.weight",)
    assert known.apply({**state(), "spare.weight": torch.ones(9)}).keys() == target.keys()
    assert automatch.convert(saved({**state(), "spare.weight": torch.ones(9)}, tmp_path), known, tmp_path / "o")


@pytest.mark.parametrize("scale", ["layer.weight_scale_inv", "layer.weight_scale", "layer.scale_weight", "layer.scale"])
def test_floats_of_8_bits_are_no_weights_without_the_scale_beside_them(scale: str, tmp_path: Path) -> None:
    held = {**state(), scale: torch.ones(1)}
    held["layer.weight"] = held["layer.weight"].to(torch.float8_e4m3fn)
    for said in ways(held, mapping(), tmp_path, allow_unread=("*scale*",)):
        assert f"layer.weight: float8_e4m3fn with a scale in {scale}, which the mapping does not read" in said


def test_floats_of_8_bits_whose_scales_are_elsewhere_are_refused_where_the_configuration_says_so(
    tmp_path: Path,
) -> None:
    known, held = mapping(), state()
    held["layer.weight"] = held["layer.weight"].to(torch.float8_e4m3fn)
    automatch.convert(saved(held, tmp_path), known, tmp_path / "out.safetensors")
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "fp8"}}')
    with pytest.raises(
        MappingError, match=r"layer.weight: float8_e4m3fn, which config.json \(quantization_config\) says"
    ):
        automatch.convert(saved(held, tmp_path), known, tmp_path / "out.safetensors")


def test_floats_of_8_bits_of_their_own_are_weights(tmp_path: Path) -> None:
    held = state()
    held["layer.weight"] = held["layer.weight"].to(torch.float8_e4m3fn)
    held["emb.scale"] = torch.ones(1)
    source = {key: torch.zeros_like(value) for key, value in held.items()}
    known = automatch.match(source, {key: value for key, value in source.items() if key != "emb.scale"})
    automatch.convert(saved(held, tmp_path), known, tmp_path / "out.safetensors")
    assert load_file(tmp_path / "out.safetensors")["layer.weight"].dtype == torch.float8_e4m3fn


@pytest.mark.parametrize(
    ("scale", "leaf", "its"),
    [
        ("weight_scale_inv", "weight", True),
        ("scales", "weight", True),
        ("w1_scale", "w1", True),
        ("w2_scale", "w1", False),
        ("input_scale", "weight", False),
        ("gate_up_proj_scales", "gate_up_proj_blocks", True),
    ],
)
def test_which_scale_is_whose(scale: str, leaf: str, its: bool) -> None:
    assert _scales(scale, leaf) is its


def test_two_values_for_weights_that_the_source_ties_are_refused(tmp_path: Path) -> None:
    known, held = mapping(source_tied=True), state(tied=True)
    assert all(said.startswith("fine") for said in ways(held, known, tmp_path))
    held["head.weight"] = torch.randn(7, 4)
    for said in ways(held, known, tmp_path):
        assert "emb.weight and head.weight: one weight in the source, and different values here" in said
    del held["head.weight"]
    assert all(said.startswith("fine") for said in ways(held, known, tmp_path))


@pytest.mark.parametrize("torn", [False, True])
def test_tied_weights_that_lie_transposed_in_a_file_are_compared_as_well(torn: bool, tmp_path: Path) -> None:
    known, held = mapping(source_tied=True), state(tied=True)
    held["head.weight"] = (held["head.weight"] + torn).T.contiguous().T
    torch.save(held, tmp_path / "held.pt")
    if not torn:
        automatch.convert(tmp_path / "held.pt", known, tmp_path / "out.safetensors")
        return
    with pytest.raises(MappingError, match=r"emb\.weight and head\.weight: one weight in the source"):
        automatch.convert(tmp_path / "held.pt", known, tmp_path / "out.safetensors")


def test_two_values_for_weights_that_the_target_ties_are_refused(tmp_path: Path) -> None:
    known, held = mapping(target_tied=True), state()
    assert known["words.weight"].sources != known["out.weight"].sources
    for said in ways(held, known, tmp_path):
        assert "words.weight and out.weight: tied in the target, and made of different values" in said
    held["head.weight"] = held["emb.weight"].clone()
    assert all(said.startswith("fine") for said in ways(held, known, tmp_path))


def test_everything_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    held = {**state(), "stranger": torch.ones(1), "layer.scale": torch.ones(1)}
    del held["layer.bias"]
    held["emb.weight"] = torch.ones(9, 4)
    held["head.weight"] = held["head.weight"].to(torch.int32)
    held["layer.weight"] = held["layer.weight"].to(torch.float8_e4m3fn)
    for said in ways(held, mapping(), tmp_path, allow_unread=()):
        for part in (
            "layer.bias: missing, needed for mix.bias",
            "emb.weight: shape [9, 4], but the mapping was made for [7, 4]",
            "head.weight: int32, but the mapping was made for float32",
            "layer.weight: float8_e4m3fn with a scale in layer.scale",
            "stranger: nothing reads it",
        ):
            assert part in said


def test_a_file_that_this_mapping_made_is_not_taken_again(tmp_path: Path) -> None:
    source = {"a": torch.arange(4.0).reshape(2, 2)}
    back = automatch.match(source, source).record
    entry = replace(back.entries[0], expr=Permute(Source("a", (2, 2)), (1, 0)))
    turned = Mapping(replace(back, entries=(entry,)))
    first = automatch.convert(saved(source, tmp_path), turned, tmp_path / "once.safetensors").files[-1]
    assert torch.equal(load_file(first)["a"], source["a"].T)
    for again in (
        lambda: automatch.convert(first, turned, tmp_path / "twice.safetensors"),
        lambda: automatch.load_into(nn.ParameterDict({"a": nn.Parameter(torch.zeros(2, 2))}), first, turned),
    ):
        with pytest.raises(MappingError, match=r"once.safetensors was made by this mapping already"):
            again()
    assert not (tmp_path / "twice.safetensors").exists()
    automatch.convert(first, turned.inverse(), tmp_path / "back.safetensors")
    assert torch.equal(load_file(tmp_path / "back.safetensors")["a"], source["a"])


def test_shards_say_it_as_well(tmp_path: Path) -> None:
    known = mapping()
    automatch.convert(saved(state(), tmp_path), known, tmp_path / "new", max_shard_size="150")
    assert len(list((tmp_path / "new").glob("*.safetensors"))) > 1
    with pytest.raises(MappingError, match="was made by this mapping already"):
        automatch.convert(tmp_path / "new", known, tmp_path / "twice")


def test_what_has_the_targets_keys_is_said_to_be_converted(tmp_path: Path) -> None:
    known = mapping()
    made = known.apply(state())
    for said in ways(made, known, tmp_path):
        assert "has the keys and shapes of Model, and not those of Model: it looks converted already" in said
        assert "emb.weight: missing, needed for words.weight" in said
