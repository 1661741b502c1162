"""The ordinary path: what is run, what is searched, what is neither, and what the mapping says of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import automatch
from automatch.core.expr import text
from automatch.exact import Budget
from automatch.prove import prove, with_proof

IDS = torch.tensor([[5, 3, 8, 1, 9, 2], [7, 2, 4, 6, 1, 3]])
IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A transformer's block, norm first."""

    def __init__(self, width: int, act: Any = F.gelu, eps: float = 1e-5) -> None:
        super().__init__()
        self.n1, self.att = nn.LayerNorm(width, eps), nn.MultiheadAttention(width, 2, batch_first=True)
        self.n2, self.up, self.down = nn.LayerNorm(width, eps), nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        y = self.n1(x)
        x = x + self.att(y, y, y, need_weights=False)[0]
        made: Tensor = x + self.down(self.act(self.up(self.n2(x))))
        return made


class Words(nn.Module):
    """A language model."""

    def __init__(self, width: int = 16, depth: int = 2, **options: Any) -> None:
        super().__init__()
        self.emb, self.blocks = nn.Embedding(20, width), nn.ModuleList(Block(width, **options) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 20)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.emb(ids)
        for block in self.blocks:
            h = block(h)
        made: Tensor = self.head(self.norm(h))
        return made


class Images(nn.Module):
    """A network of convolutions with batch norms."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.a, self.n, self.b = nn.Conv2d(3, width, 3), nn.BatchNorm2d(width), nn.Conv2d(width, width, 3)
        self.m, self.c = nn.BatchNorm2d(width), nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.c(self.m(self.b(self.n(self.a(x)).relu())).relu().mean((2, 3)))
        return made


def matched(source: nn.Module, target: nn.Module, given: Tensor, **options: Any) -> tuple[automatch.Mapping, list[str]]:
    said: list[str] = []
    found = automatch.match(source, target, source_inputs=given, target_inputs=given, progress=said.append, **options)
    return found, said


@pytest.mark.parametrize(
    ("teacher", "student", "given", "reason"),
    [
        (Words(32), Words(16), IDS, "other widths"),
        (Images(16), Images(8), IMAGE, "other widths"),
        (Words(16, depth=4), Words(16, depth=2), IDS, "4 layers blocks.{i} in the source, 2 layers blocks.{i}"),
        (Words(16, depth=2), Words(16, depth=4), IDS, "2 layers blocks.{i} in the source, 4 layers blocks.{i}"),
    ],
    ids=["half as wide", "half the channels", "half as deep", "twice as deep"],
)
def test_a_student_is_neither_searched_nor_run_and_says_so(
    teacher: nn.Module, student: nn.Module, given: Tensor, reason: str
) -> None:
    mapping, said = matched(teacher, student, given)
    assert not [sentence for sentence in said if "colouring" in sentence or "proving" in sentence]
    assert mapping.verdict == "not run"
    assert f"two functions, which no run can compare: {reason}" in mapping.record.not_run
    kinds = {entry.target: entry.sources for entry in mapping.entries if "blocks" not in entry.target}
    assert kinds == {key: (key,) for key in kinds}
    assert str(mapping.summary()).startswith("not run: the models are two functions")


def test_more_input_channels_are_no_reason_to_run_and_other_inputs_no_contradiction() -> None:
    def net(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(channels, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.Conv2d(8, 3, 3))

    images = torch.randn(1, 4, 9, 9), torch.randn(1, 9, 9, 9)
    mapping = automatch.match(net(4), net(9), source_inputs=images[0], target_inputs=images[1])
    assert mapping.verdict == "not run"
    assert mapping.record.not_run == "1 of 6 weights were made of others of another size, such as 0.weight"


def test_what_structure_says_and_a_run_confirms_is_not_searched() -> None:
    mapping, said = matched(Words(), Words(), IDS)
    assert not [sentence for sentence in said if "colouring" in sentence]
    # a softmax does not see the bias of its keys
    open_ = [entry.target for entry in mapping.entries if entry.status != "proved"]
    assert open_ == [f"blocks.{layer}.att.in_proj_bias" for layer in range(2)]
    assert mapping.verdict == "agrees, in part shown"


class Turned(nn.Module):
    """Attention whose queries and keys are turned by position, in halves or in neighbouring pairs."""

    def __init__(self, halves: bool) -> None:
        super().__init__()
        self.emb, self.halves = nn.Embedding(12, 16), halves
        self.q, self.k, self.v, self.o = (nn.Linear(16, 16, bias=False) for _ in range(4))

    def turned(self, x: Tensor) -> Tensor:
        angles = torch.arange(x.shape[-2])[:, None] * 0.5 ** torch.arange(4)
        if self.halves:
            a, b = x.chunk(2, -1)
        else:
            a, b = x[..., ::2], x[..., 1::2]
        parts = a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()
        return torch.cat(parts, -1) if self.halves else torch.stack(parts, -1).flatten(-2)

    def forward(self, ids: Tensor) -> Tensor:
        h = self.emb(ids)
        q, k, v = (layer(h).unflatten(-1, (2, 8)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(self.turned(q), self.turned(k), v, is_causal=True)
        made: Tensor = self.o(y.transpose(1, 2).flatten(2))
        return made


def test_what_structure_cannot_see_is_searched_and_proved() -> None:
    mapping, said = matched(Turned(True), Turned(False), IDS)
    assert [sentence for sentence in said if sentence.startswith("colouring: reading 1 of")]
    assert text(mapping["q.weight"].expr) == "rotary_pairs(q.weight, heads=2)"  # type: ignore[arg-type]
    assert mapping.verdict == "proved"


class Branches(nn.Module):
    """Two layers, one after the other or beside each other: no operator differs, no weight does."""

    def __init__(self, beside: bool) -> None:
        super().__init__()
        self.a, self.b, self.beside = nn.Linear(12, 12), nn.Linear(12, 12), beside

    def forward(self, x: Tensor) -> Tensor:
        h = x + self.a(x).tanh()
        made: Tensor = h + self.b(x if self.beside else h).tanh()
        return made


def test_two_functions_are_not_searched_whole_and_both_codes_are_to_be_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("automatch.running.exact_entries", never)
    mapping, _ = matched(Branches(True), Branches(False), torch.randn(3, 12))
    assert mapping.verdict == "refuted"
    assert mapping.record.notes[-1].startswith("the whole models were not searched: no output of one model agrees")
    assert "compare the code of both where they part" in str(mapping.summary())
    assert {entry.status for entry in mapping.entries} <= {"structural", "guessed"}


def test_one_token_given_is_no_reason_to_miss_a_layout() -> None:
    with pytest.warns(automatch.errors.InputsWarning, match="single token"):
        mapping, _ = matched(Turned(True), Turned(False), IDS[:, :1])
    assert text(mapping["k.weight"].expr) == "rotary_pairs(k.weight, heads=2)"  # type: ignore[arg-type]
    assert mapping.verdict == "proved"


def test_a_search_that_gives_up_says_so_and_the_answer_is_mended_or_refuted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automatch.running._mended", lambda *_: iter(()))
    monkeypatch.setattr("automatch.running.SEARCHED", 0.0)
    monkeypatch.setattr("automatch.running.repaired", lambda *_, **__: None)
    mapping, _ = matched(Turned(True), Turned(False), IDS)
    assert any("the search gave up after 0 s" in note and "budget_s" in note for note in mapping.record.notes)
    assert mapping.verdict == "refuted"
    assert "a larger budget_s lets it go on" in str(mapping.summary())
    assert mapping["v.weight"].status == "structural"
    assert {mapping[key].status for key in ("q.weight", "k.weight")} == {"guessed"}


def test_no_run_begins_where_no_time_is_left() -> None:
    mapping, said = matched(Turned(True), Turned(False), IDS, budget_s=0.0)
    assert not [sentence for sentence in said if "proving" in sentence or "searching" in sentence]
    assert mapping.verdict == "not run"
    assert "the proof gave up after 0 s, before draw 1 of 3; a larger budget_s lets it go on" in str(mapping.summary())
    assert {entry.status for entry in mapping.entries} == {"structural"}


def test_what_the_first_run_refuted_is_answered_where_no_time_is_left_to_search(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def slow(self: Any, record: Any, locate: bool = False) -> Any:
        monkeypatch.setattr(Budget, "spent", property(lambda _: True))
        return with_proof(record, found)

    source, target = Turned(True), Turned(False)
    record = automatch.match(source, target, source_inputs=IDS, target_inputs=IDS, run=False).record
    found = prove(record, source, target, IDS, IDS, locate=False)
    monkeypatch.setattr("automatch.running.Bench.judged", slow)
    mapping, said = matched(source, target, IDS)
    assert not [sentence for sentence in said if "searching" in sentence or "colouring" in sentence]
    assert mapping.verdict == "refuted"
    assert "the search ended before it was through" in str(mapping.summary())


def test_repair_finds_what_a_search_was_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automatch.exact.readings.LARGEST", 100)  # as if the models were too large to be searched
    mapping, said = matched(Turned(True), Turned(False), IDS)
    assert not [sentence for sentence in said if "colouring" in sentence]
    assert text(mapping["q.weight"].expr) == "rotary_pairs(q.weight, heads=2)"  # type: ignore[arg-type]
    assert any(reason.startswith("repaired: ") for reason in mapping["q.weight"].evidence.reasons)
    assert mapping.verdict == "proved"


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"act": F.relu}, "relu here, gelu(approximate='none') there"),
        ({"act": nn.GELU("tanh")}, "gelu(approximate='tanh') here, gelu(approximate='none') there"),
        ({"eps": 1e-6}, "layer_norm(eps=1e-06) here, layer_norm(eps=1e-05) there"),
    ],
    ids=["activation", "tanh", "eps"],
)
def test_an_operator_that_differs_is_named_and_what_lies_before_it_keeps_its_status(
    options: dict[str, Any], named: str
) -> None:
    mapping, _ = matched(Words(), Words(**options), IDS)
    proof = mapping.record.proof
    assert proof is not None
    assert mapping.verdict == "refuted"
    assert named in proof.divergence[0]
    assert not any("suspected" in sentence for sentence in proof.divergence)
    assert mapping["emb.weight"].status == "structural"
    assert mapping["head.weight"].status == "guessed"
    assert named in mapping["head.weight"].evidence.reasons[0]


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"run": False}, "a run was not wanted"), ({"device": "meta"}, "the models' numbers were to be left aside")],
    ids=["run", "device"],
)
def test_what_is_not_run_is_asked_for_and_says_so(options: dict[str, Any], reason: str) -> None:
    mapping, _ = matched(Words(), Words(), IDS, **options)
    assert mapping.verdict == "not run"
    assert mapping.record.not_run.startswith(reason)
    assert {entry.status for entry in mapping.entries} == {"structural"}


def test_numbers_may_be_asked_for() -> None:
    with pytest.raises(automatch.errors.ModelError, match="the source and the target are on the meta device"):
        matched(Words().to("meta"), Words().to("meta"), IDS, device="cpu")
    mapping, _ = matched(Words().to("meta"), Words(), IDS)
    assert mapping.record.not_run == "the source is on the meta device"
    assert "--device cpu" in mapping.record.next_step
    assert "--source-twin" in mapping.record.next_step


def test_gpt_neo_onto_gpt_2_is_exact() -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"vocab_size": 64, "hidden_size": 48, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 32}
    neo = transformers.GPTNeoConfig(**sizes, attention_types=[[["global"], 2]], intermediate_size=192)
    gpt = transformers.GPT2Config(vocab_size=64, n_embd=48, n_layer=2, n_head=4, n_positions=32)
    source, target = transformers.GPTNeoForCausalLM(neo).eval(), transformers.GPT2LMHeadModel(gpt).eval()
    given = {"input_ids": torch.randint(0, 64, (2, 9), generator=torch.Generator().manual_seed(0))}
    mapping = automatch.match(source, target, source_inputs=given, target_inputs=given)
    assert mapping["transformer.h.1.attn.c_attn.weight"].status == "proved"
    assert "3.464" in text(mapping["transformer.h.1.attn.c_attn.weight"].expr)  # type: ignore[arg-type]
    target.load_state_dict(mapping.apply(source.state_dict()), strict=False)
    with torch.no_grad():
        gap = (source(**given).logits - target(**given).logits).abs().max()
    assert float(gap) < 1e-5


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("gradients were searched")


class Classes(nn.Module):
    """As many numbers in a different shape: what comes out has another size."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.a, self.b, self.classes = nn.Linear(8, 8), nn.Linear(8, 8), classes

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.b(self.a(x).tanh())[..., : self.classes]
        return made.reshape(-1, self.classes, 1).expand(-1, -1, self.classes)


def test_outputs_of_another_size_are_said_at_once_and_nothing_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automatch.running.exact_entries", never)
    given = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    mapping, _ = matched(Classes(8), Classes(4), given)
    assert mapping.verdict == "not run"
    assert "no floating output of one has the shape of one of the other" in mapping.record.not_run


@pytest.mark.parametrize("large", [True, False])
def test_models_with_another_operator_are_refuted_without_a_search(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("automatch.running.LARGE", 1 if large else 10**9)
    monkeypatch.setattr("automatch.running.exact_entries", never)
    mapping, said = matched(Words(act=F.gelu), Words(act=F.relu), IDS)
    assert mapping.verdict == "refuted"
    assert not large or not [sentence for sentence in said if "searching" in sentence]
    assert mapping.record.proof is not None
    assert any("gelu" in line and "relu" in line for line in mapping.record.proof.divergence)


class Rare(nn.Module):
    """A layer beside a weight that it uses in long inputs alone."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.a, self.name = nn.Linear(4, 3), name
        self.register_parameter(name, nn.Parameter(torch.randn(3, generator=torch.Generator().manual_seed(0))))

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.a(x).tanh()
        return made + getattr(self, self.name) if x.shape[1] > 5 else made


def test_what_is_left_over_fills_what_no_output_of_the_examples_tells_and_is_run() -> None:
    given = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    mapping, _ = matched(Rare("first"), Rare("second"), given)
    assert mapping["second"].sources == ("first",)
    assert mapping["a.weight"].status == "proved"
    assert mapping.record.proof is not None
    assert "only on inputs like the examples" not in mapping.record.proof.reason


class Halved(nn.Module):
    """A residual block behind a factor, which another holds in its weights."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.a, self.b, self.factor = nn.Linear(12, 16), nn.Linear(16, 12), factor

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = x + self.b(self.a(x).relu() * self.factor)
        return made


@pytest.mark.parametrize("large", [True, False])
def test_a_factor_that_one_side_holds_in_its_weights_is_found(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("automatch.running.LARGE", 1 if large else 10**9)
    mapping, _ = matched(Halved(0.5), Halved(1.0), torch.randn(3, 12, generator=torch.Generator().manual_seed(0)))
    assert mapping.verdict == "proved"
    assert not [note for note in mapping.record.notes if "not searched" in note]


def test_a_weight_that_is_multiplied_by_zero_is_no_fault() -> None:
    class Muted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.e = nn.Linear(4, 3), nn.Parameter(torch.ones(3))

        def forward(self, x: Tensor) -> Tensor:
            made: Tensor = self.a(x) + 0 * self.e
            return made

    mapping, _ = matched(Muted(), Muted(), torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    assert mapping["a.weight"].status == "proved"
