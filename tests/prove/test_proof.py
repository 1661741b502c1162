"""A proof written into a mapping: statuses, evidence, what stays."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from automatch.core.expr import Constant, Expr, Source, Sum
from automatch.core.mapping import MappingRecord, ProofRecord, Shown, Status
from automatch.core.mapping_json import dumps, loads
from automatch.mapping import Mapping
from automatch.prove import Proof, prove, with_proof
from tests.prove.nets import record


class Shifted(nn.Module):
    """Two linear layers, of which the second may have a bias, and an embedding whose last row nothing reads."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)
        self.one, self.two = nn.Linear(4, 6), nn.Linear(6, 2, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.two(self.one(self.table(x.clamp(max=3))).tanh())
        return out


IDS = torch.tensor([[0, 1, 3], [2, 0, 3]])
SAME: dict[str, Expr | str | None] = {
    "table.weight": "table.weight",
    "one.weight": "one.weight",
    "one.bias": "one.bias",
    "two.weight": "two.weight",
    "two.bias": Constant(0.0, (2,)),
}


def proved(status: Status = "guessed", **other: Expr | str | None) -> MappingRecord:
    source, target = Shifted(bias=False), Shifted(bias=True)
    made = record(source, target, {**SAME, **{key.replace("__", "."): value for key, value in other.items()}}, status)
    return with_proof(made, prove(made, source, target, IDS, IDS))


def statuses(made: MappingRecord) -> dict[str, str]:
    return {entry.target: entry.status for entry in made.entries}


@pytest.mark.parametrize("status", ["guessed", "structural", "proved"])
def test_what_was_shown_is_proved_whatever_it_was_and_constants_too(status: Status) -> None:
    made = proved(status)
    assert made.proof is not None
    assert made.proof.outcome == "agree"
    assert statuses(made) == {
        "table.weight": "structural",
        "one.weight": "proved",
        "one.bias": "proved",
        "two.weight": "proved",
        "two.bias": "proved",
    }


@pytest.mark.parametrize("status", ["guessed", "structural"])
def test_where_outputs_differ_nothing_is_upgraded(status: Status) -> None:
    made = proved(status, two__bias=Constant(0.5, (2,)))
    assert made.proof is not None
    assert made.proof.outcome == "differ"
    assert statuses(made) == {key: "guessed" if key.startswith("two.") else status for key in statuses(made)}
    assert all(entry.evidence.shown is None for entry in made.entries)


def test_an_old_proof_does_not_outlive_a_new_one_that_fails() -> None:
    found = statuses(proved("proved", two__bias=Constant(0.5, (2,))))
    assert found == {key: "guessed" if key.startswith("two.") else "structural" for key in found}


def test_an_unmapped_weight_that_is_used_fails_the_proof_and_stays_unmapped() -> None:
    made = proved(two__bias=None)
    assert made.proof is not None
    assert made.proof.outcome == "differ"
    assert statuses(made)["two.bias"] == "unmapped"


def test_a_guess_of_which_nothing_was_seen_stays_a_guess() -> None:
    made = proved()
    dead = Proof(ProofRecord("agree", "", 3, 1e-5, "", ""), {"one.bias": Shown(0, 6, "no output can tell")})
    found = with_proof(replace(made, entries=tuple(replace(e, status="guessed") for e in made.entries)), dead)
    assert set(statuses(found).values()) == {"guessed"}
    assert next(e for e in found.entries if e.target == "one.bias").evidence.shown == Shown(0, 6, "no output can tell")


def test_a_sum_of_two_sources_is_proved() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 3), nn.Linear(4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.a(x) + self.b(x)
            return out

    added: dict[str, Expr | str | None] = {
        name: Sum((Source(f"a.{name}", shape), Source(f"b.{name}", shape)))
        for name, shape in {"weight": (3, 4), "bias": (3,)}.items()
    }
    source, target, x = Two(), nn.Linear(4, 3), torch.randn(2, 4)
    made = record(source, target, added, "guessed")
    assert set(statuses(with_proof(made, prove(made, source, target, x, x))).values()) == {"proved"}


def test_the_proof_survives_the_file() -> None:
    made = proved()
    assert loads(dumps(made), "m.json") == made


def test_a_mapping_proves_itself_and_stays_as_it_is() -> None:
    source, target = Shifted(bias=False), Shifted(bias=True)
    mapping = Mapping(record(source, target, SAME, "guessed"))
    found = mapping.prove(source, target, source_inputs=IDS, target_inputs=((IDS,), {}))
    assert (found.summary().proved, found.summary().structural, found.summary().guessed) == (4, 1, 0)
    assert mapping.summary().guessed == 5
    assert found["one.weight"].evidence.shown == Shown(24, 24, "every element would have shown, had it been wrong")
