from __future__ import annotations

from pathlib import Path

import pytest
import torch

import automatch
from automatch.align.names.order import in_order
from automatch.align.names.regular import regular
from automatch.cli import main
from automatch.core.expr import text
from automatch.core.graph import Shape, Weight
from automatch.core.mapping import Side
from automatch.errors import RulesError
from automatch.known.draft import draft
from automatch.known.library import shipped
from tests.benchmarks.suggesting import AIM, scores

HEADS, KV, WIDTH, HIDDEN, WORDS = 6, 3, 48, 80, 90


def llama_like(layers: int) -> dict[str, Shape]:
    """A decoder with the names that transformers gives, of sizes that no shipped conversion has."""
    shapes: dict[str, Shape] = {"model.embed_tokens.weight": (WORDS, WIDTH)}
    rows = {"q": WIDTH, "k": WIDTH * KV // HEADS, "v": WIDTH * KV // HEADS}
    for i in range(layers):
        at = f"model.layers.{i}"
        shapes |= {f"{at}.self_attn.{n}_proj.weight": (size, WIDTH) for n, size in rows.items()}
        shapes[f"{at}.self_attn.o_proj.weight"] = (WIDTH, WIDTH)
        shapes |= {f"{at}.mlp.{n}_proj.weight": (HIDDEN, WIDTH) for n in ("gate", "up")}
        shapes[f"{at}.mlp.down_proj.weight"] = (WIDTH, HIDDEN)
        shapes |= {f"{at}.{n}_layernorm.weight": (WIDTH,) for n in ("input", "post_attention")}
    return shapes | {"model.norm.weight": (WIDTH,), "lm_head.weight": (WORDS, WIDTH)}


def state(shapes: dict[str, Shape]) -> dict[str, torch.Tensor]:
    return {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


def side(shapes: dict[str, Shape], sizes: dict[str, int] | None = None) -> Side:
    weights = tuple(Weight(key, shape, "float32") for key, shape in shapes.items())
    return Side("", "names", weights, sizes=tuple((sizes or {}).items()))


def test_without_a_target_the_draft_leads_where_the_best_conversion_does() -> None:
    found = automatch.suggest(state(llama_like(5)))
    assert found.taken[0].share == 1.0
    assert found.uncovered == ()
    expressions = {entry.target: text(entry.expr) for entry in found.draft.entries if entry.expr is not None}
    assert expressions["transformer.h.4.attn.qkv.weight"] == (
        "cat(model.layers.4.self_attn.q_proj.weight, model.layers.4.self_attn.k_proj.weight, "
        "model.layers.4.self_attn.v_proj.weight)"
    )
    assert found.draft.unused == ()


def test_a_source_that_nothing_reads_needs_a_target() -> None:
    with pytest.raises(RulesError, match=r"none of \d+ known conversions reads keys such as odd\.name"):
        automatch.suggest({"odd.name": torch.empty(2, device="meta")})


def test_what_is_known_of_others_is_a_guess_unless_names_are_sure_of_it() -> None:
    known = next(known for known in shipped() if known.name == "transformers-phi3 to torchtune")
    others = [other for other in shipped() if other.family != "phi3"]
    found = draft(known.source, known.target, others)
    for entry in found.draft.entries:
        if entry.evidence.method == "rules" and entry.status == "structural":
            assert entry.evidence.reasons[0].startswith("as in ")
            assert len(entry.sources) == 1
    cut = [entry for entry in found.draft.entries if entry.expr is not None and "[" in text(entry.expr)]
    assert cut


def test_the_draft_is_a_mapping_that_check_and_prove_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "models.py").write_text(
        "import torch\n"
        "from torch import nn\n"
        "class Old(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc1, self.fc2 = nn.Linear(3, 5), nn.Linear(5, 2)\n"
        "    def forward(self, x):\n"
        "        return self.fc2(self.fc1(x).tanh())\n"
        "class New(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.linear1, self.linear2 = nn.Linear(3, 5), nn.Linear(5, 2)\n"
        "    def forward(self, x):\n"
        "        return self.linear2(self.linear1(x).tanh())\n"
        "def old(): return Old()\n"
        "def new(): return New()\n"
        "def old_inputs(): return torch.randn(4, 3, generator=torch.Generator().manual_seed(0))\n"
        "new_inputs = old_inputs\n"
    )
    old, new, output = f"{tmp_path}/models.py:old", f"{tmp_path}/models.py:new", str(tmp_path / "draft.json")
    assert main(["suggest", old, "--target", new, "-o", output, "--rules", str(tmp_path / "draft.toml")]) == 0
    assert "a draft" in capsys.readouterr().out
    assert main(["check", output, output]) == 0
    assert main(["prove", old, new, "--mapping", output, "-o", str(tmp_path / "proved.json"), "--quiet"]) == 0
    proved = automatch.load(tmp_path / "proved.json")
    assert {entry.status for entry in proved.entries} == {"proved"}
    again = automatch.adapt(tmp_path / "draft.toml", proved_source(proved), proved_target(proved))
    assert again["linear1.bias"].sources == ("fc1.bias",)


def proved_source(mapping: automatch.Mapping) -> dict[str, torch.Tensor]:
    return state({weight.name: weight.shape for weight in mapping.record.source.weights})


def proved_target(mapping: automatch.Mapping) -> dict[str, torch.Tensor]:
    return state({weight.name: weight.shape for weight in mapping.record.target.weights})


def test_uncovered_keys_are_named_and_the_exit_status_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    save_file({"a.weight": torch.zeros(2, 2)}, tmp_path / "old.safetensors")
    save_file({"a.weight": torch.zeros(2, 2), "strange": torch.zeros(7)}, tmp_path / "new.safetensors")
    words = ["suggest", str(tmp_path / "old.safetensors"), "--target", str(tmp_path / "new.safetensors")]
    assert main(words) == 1
    out = capsys.readouterr().out
    assert "nothing is known of (1):" in out
    assert "strange" in out


def test_remember_writes_what_suggest_reads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = next(known for known in shipped() if known.name == "transformers-llama to litgpt")
    automatch.Mapping(known.record).save(tmp_path / "m.json")
    words = ["remember", str(tmp_path / "m.json"), "--name", "a", "--family", "b", "-o", str(tmp_path / "k.toml")]
    assert main(words) == 2
    assert "only what a run proved is kept as known" in capsys.readouterr().err
    assert not (tmp_path / "k.toml").exists()


def test_blocks_are_taken_as_wholes() -> None:
    ours: dict[str, Shape] = {f"in.{i}.{w}": (4,) for i in range(3) for w in ("norm", "conv")}
    theirs: dict[str, Shape] = {f"down.{i}.{w}": (4,) for i in range(3) for w in ("n", "c")}
    crossed = {"down.0.n": "in.0.norm", "down.0.c": "in.1.conv", "down.1.n": "in.1.norm", "down.1.c": "in.0.conv"}
    found = regular(crossed | {"down.2.n": "in.2.norm"}, frozenset(["down.0.n", "down.1.n"]), ours, theirs)
    words = {"n": "norm", "c": "conv"}
    assert found == {f"down.{i}.{new}": f"in.{i}.{old}" for i in range(3) for new, old in words.items()}


def test_blocks_of_other_shapes_are_not_paired() -> None:
    ours: dict[str, Shape] = {f"in.{i}.w": (i + 2,) for i in range(2)}
    theirs: dict[str, Shape] = {f"out.{i}.w": (9,) for i in range(2)}
    assert regular({"out.0.w": "in.0.w"}, frozenset(), ours, theirs) == {}


def test_leftovers_follow_order_and_shape() -> None:
    assert in_order([("a.w", (2,)), ("b.w", (3,))], [("x.w", (3,)), ("y.w", (2,))]) in (
        {"x.w": "b.w", "y.w": "a.w"},
        {"x.w": "b.w"},
        {"y.w": "a.w"},
    )
    assert in_order([("a.w", (2,))], [("x.w", (3,))]) == {}


def test_one_family_left_out_at_a_time_the_suggestions_reach_the_aim() -> None:
    found = scores()
    assert len(found) >= 30
    right, keys = sum(each.right for each in found), sum(each.keys for each in found)
    assert right / keys >= AIM
    sure, wrong = sum(each.sure for each in found), sum(each.sure - each.sure_right for each in found)
    assert wrong <= 0.01 * sure
