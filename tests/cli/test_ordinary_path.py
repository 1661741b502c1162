"""What a new user does first: a small Llama onto a hand-written one with a fused, interleaved projection."""

from __future__ import annotations

from pathlib import Path

import pytest

from automatch.cli import main
from automatch.core.expr import text
from automatch.mapping import load

CODE = """
import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

WORDS, WIDTH, HEADS, HIDDEN, DEPTH = 96, 80, 5, 128, 2


def theirs():
    sizes = dict(vocab_size=WORDS, hidden_size=WIDTH, intermediate_size=HIDDEN, num_hidden_layers=DEPTH)
    heads = dict(num_attention_heads=HEADS, num_key_value_heads=HEADS, max_position_embeddings=64)
    return LlamaForCausalLM(LlamaConfig(**sizes, **heads, tie_word_embeddings=False)).eval()


class Norm(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.scale


def turned(x):
    speeds = 10000.0 ** (-torch.arange(0, x.shape[-1], 2, dtype=x.dtype) / x.shape[-1])
    angles = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * speeds
    even, odd = x[..., ::2], x[..., 1::2]
    pairs = even * angles.cos() - odd * angles.sin(), even * angles.sin() + odd * angles.cos()
    return torch.stack(pairs, -1).flatten(-2)


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = Norm(), Norm()
        self.qkv, self.o = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.gu, self.down = nn.Linear(WIDTH, 2 * HIDDEN, bias=False), nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(self.ln1(x)).unflatten(-1, (HEADS, 3, -1)).permute(3, 0, 2, 1, 4)
        y = F.scaled_dot_product_attention(turned(q), turned(k), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        gate, up = self.gu(self.ln2(x)).chunk(2, -1)
        return x + self.down(F.silu(gate) * up)


class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.blocks = nn.Embedding(WORDS, WIDTH), nn.ModuleList(Block() for _ in range(DEPTH))
        self.norm, self.head = Norm(), nn.Linear(WIDTH, WORDS, bias=False)

    def forward(self, ids):
        x = self.emb(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


def mine(): return Mine().eval()
def ones(): return (torch.ones(1, 8, dtype=torch.long),)
def other(): return (torch.arange(8)[None],)
"""

SHAPES = ["--source-input", "input_ids=i64[1,8]", "--target-input", "ids=i64[1,8]"]
FUSED = (
    "interleave(rotary_pairs(model.layers.1.self_attn.q_proj.weight, heads=5), "
    "rotary_pairs(model.layers.1.self_attn.k_proj.weight, heads=5), "
    "model.layers.1.self_attn.v_proj.weight, groups=5)"
)


@pytest.fixture
def code(tmp_path: Path) -> str:
    pytest.importorskip("transformers")
    (tmp_path / "llamas.py").write_text(CODE)
    return str(tmp_path / "llamas.py")


@pytest.mark.parametrize(
    "inputs",
    [[*SHAPES, "--device", "cpu"], ["--source-inputs", "ones", "--target-inputs", "ones"]],
    ids=["shapes alone, on the CPU", "constant ids, the default"],
)
def test_the_default_finds_and_proves_the_rotary_layout(
    code: str, tmp_path: Path, inputs: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mapping.json"
    words = ["match", f"{code}:theirs", f"{code}:mine", "-o", str(out), "--require", "proved"]
    assert main([*words, *inputs]) == 0
    said = capsys.readouterr()
    assert said.out.startswith("proved: all 15 weights")
    assert text(load(out)["blocks.1.qkv.weight"].expr) == FUSED  # type: ignore[arg-type]
    assert ("warning: the source's input_ids is 1 everywhere" in said.err) is ("ones" in inputs)


def test_without_a_run_the_first_line_says_so_and_how_to_prove_it(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mapping.json"
    words = ["match", f"{code}:theirs", f"{code}:mine", *SHAPES, "-o", str(out)]
    assert main([*words, "--device", "meta"]) == 0
    first = " ".join(capsys.readouterr().out.split("LlamaForCausalLM")[0].split())
    assert first.startswith("not run: the source and the target are on the meta device; to prove it: build both models")
    assert "--device cpu" in first
    assert main([*words, "--device", "meta", "--require", "agrees"]) == 1


def test_a_mapping_without_the_layout_is_refuted_whatever_the_ids(
    code: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mapping.json"
    assert main(["match", f"{code}:theirs", f"{code}:mine", *SHAPES, "-o", str(out), "--no-run", "--quiet"]) == 0
    capsys.readouterr()
    for inputs in (SHAPES, ["--source-inputs", "ones", "--target-inputs", "ones"]):
        assert main(["prove", f"{code}:theirs", f"{code}:mine", "--mapping", str(out), *inputs]) == 1
        assert capsys.readouterr().out.startswith("refuted: ")


@pytest.mark.parametrize("command", ["match", "prove"])
def test_ids_that_differ_are_an_error_before_anything_runs(
    code: str, tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mapping.json"
    if command == "prove":
        assert main(["match", f"{code}:theirs", f"{code}:mine", *SHAPES, "-o", str(out), "--no-run"]) == 0
        capsys.readouterr()
    option = ["-o", str(out)] if command == "match" else ["--mapping", str(out)]
    given = ["--source-inputs", "ones", "--target-inputs", "other"]
    assert main([command, f"{code}:theirs", f"{code}:mine", *option, *given]) == 2
    said = capsys.readouterr()
    assert "input_ids of the source and ids of the target" in said.err or "[1, 8] and [1, 8]" in said.err
    assert said.out == ""
