"""Numbers that were equal where rules come from: named, asked for, refused, decided."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import automatch
from automatch.cli.app import main
from automatch.errors import CoincidenceWarning, RulesError
from automatch.exporters import FORMS, export
from automatch.rules.deciding import decided, is_open, open_sizes
from automatch.rules.learn import learn
from automatch.rules.reading import read_reading
from automatch.rules.ruleset import Size

CODE = """
import torch
from torch import nn
from torch.nn import functional as F


class Apart(nn.Module):
    def __init__(self, heads, head_dim):
        super().__init__()
        self.num_heads, self.head_dim, width = heads, head_dim, heads * head_dim
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))

    def forward(self, x):
        q, k, v = (f(x).unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Joined(nn.Module):
    def __init__(self, heads, head_dim):
        super().__init__()
        self.num_heads, self.head_dim, width = heads, head_dim, heads * head_dim
        self.qkv, self.o = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (self.num_heads, 3, -1)).transpose(1, 2).unbind(3)
        return self.o(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


def large_apart():
    return Apart(5, 14)


def large_joined():
    return Joined(5, 14)
"""

SPACE: dict[str, type[nn.Module]] = {}
exec(CODE, SPACE)  # the command line needs the same code in a file


def mapping(heads: int, head_dim: int) -> automatch.Mapping:
    torch.manual_seed(0)
    apart, joined = SPACE["Apart"](heads, head_dim), SPACE["Joined"](heads, head_dim)
    x = torch.randn(1, 5, heads * head_dim)
    return automatch.match(apart, joined, source_inputs=x, target_inputs=x)


@pytest.fixture(scope="module")
def equal() -> automatch.Mapping:
    return mapping(6, 6)


def name_of(found: automatch.Mapping) -> str:
    (size,) = open_sizes(learn(found.record))
    return size.name


def test_equal_numbers_are_named_in_the_rules_and_warned_of(equal: automatch.Mapping) -> None:
    with pytest.warns(CoincidenceWarning, match="source.num_heads"):
        rules = equal.rules()
    (note,) = rules.notes
    assert "source.head_dim" in note
    assert "source.num_heads" in note
    assert note in str(rules)


@pytest.mark.parametrize("form", FORMS)
def test_no_exporter_guesses_between_them(equal: automatch.Mapping, form: str) -> None:
    rules = learn(equal.record)
    with pytest.raises(RulesError, match=f"{name_of(equal)} = 6 may be source.head_dim or source.num_heads"):
        export(rules, form)  # type: ignore[arg-type]


def test_adapt_asks_for_the_size_and_takes_its_number_or_its_place(equal: automatch.Mapping) -> None:
    rules, name = learn(equal.record), name_of(equal)
    sides = SPACE["Apart"](5, 14), SPACE["Joined"](5, 14)
    open_one = automatch.adapt(rules, *sides)["qkv.weight"]
    assert open_one.status == "unmapped"
    assert f"{name} may be 14 or 5: give the size (--size {name}=NUMBER)" in open_one.evidence.reasons[0]
    for meant in (5, "source.num_heads", "target.num_heads"):
        made = automatch.adapt(rules, *sides, sizes={name: meant})
        assert made["qkv.weight"].status == "structural"
        _agree(sides, made)


def _agree(sides: tuple[nn.Module, nn.Module], made: automatch.Mapping) -> None:
    source, target = sides
    target.load_state_dict(made.apply(source.state_dict()))
    x: Tensor = torch.randn(2, 4, 70)
    torch.testing.assert_close(target(x), source(x))


def test_a_second_example_decides(equal: automatch.Mapping) -> None:
    rules = equal.rules(mapping(3, 8))  # a warning would be an error here
    assert open_sizes(rules) == ()
    assert "num_heads" in export(rules, "python")


def test_a_given_reading_decides_for_good(equal: automatch.Mapping) -> None:
    rules = equal.rules(sizes={name_of(equal): "source.num_heads"})
    assert rules.notes == ()
    assert "num_heads" in export(rules, "python")
    assert "source.num_heads" in str(rules)


def test_a_given_number_is_exported_as_it_is(equal: automatch.Mapping) -> None:
    written = export(learn(equal.record), "python", sizes={name_of(equal): 6})
    scope: dict[str, object] = {}
    exec(written, scope)
    state = SPACE["Apart"](6, 6).state_dict()
    made = scope["convert"](state)  # type: ignore[operator]
    assert torch.equal(made["qkv.weight"], equal.apply(state)["qkv.weight"])


def test_a_pattern_decides_several_sizes_and_what_is_none_is_refused(equal: automatch.Mapping) -> None:
    rules = learn(equal.record)
    assert open_sizes(decided(rules, {"*": "source.num_heads"})) == ()
    with pytest.raises(RulesError, match="the rules have no size heads, depth; they have"):
        decided(rules, {"heads": 2, "depth": 3})
    with pytest.raises(RulesError, match="the rules have no size nothing; they have"):
        decided(rules, {"*": "nothing * 2"})


@pytest.mark.parametrize(
    ("readings", "found"),
    [
        (["source.config.num_heads", "target.config.n_head"], False),
        (["source.config.n_head", "source.layers.*.attn.num_attention_heads"], False),
        (["source.config.groups", "target.h.*.heads"], False),  # each side's own word
        (["source.config.num_heads", "source.config.head_dim"], True),
        (["source.config.num_heads", "source.config.num_key_value_heads"], True),
        (["source.config.heads", "4"], True),
        (["width // heads"], False),
        (["head_dim // 2", "2 * heads"], True),
        (["head_dim // 2", "width // heads"], False),  # by chance, very likely
        (["width // heads", "rows - columns"], True),
        (["source.config.head_dim", "n_ctx // 2"], False),
        (["source[q.weight][0]", "source[k.weight][0]"], True),
        ([], False),
    ],
)
def test_what_means_one_thing_is_not_open(readings: list[str], found: bool) -> None:
    assert is_open(Size("n", tuple(map(read_reading, readings)), 4)) == found


def test_the_command_line_warns_asks_and_takes_the_size(
    equal: automatch.Mapping, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made, rules, code = tmp_path / "m.json", tmp_path / "r.toml", tmp_path / "models.py"
    equal.save(made)
    code.write_text(CODE)
    name = name_of(equal)
    assert main(["rules", str(made), "-o", str(rules)]) == 0
    assert f"warning: the rules may mean either of numbers that are equal in these models: {name} = 6" in (
        capsys.readouterr().err
    )
    assert main(["export", str(rules), "--to", "python"]) == 2
    assert "--size NAME=READING" in capsys.readouterr().err
    assert main(["export", str(made), "--to", "python", "--size", f"{name}=source.num_heads"]) == 0
    models = [f"{code}:large_apart", f"{code}:large_joined", "-o", str(tmp_path / "large.json")]
    assert main(["adapt", str(rules), *models]) == 1
    assert main(["adapt", str(rules), *models, "--size", f"{name}=source.num_heads"]) == 0
    assert main(["rules", str(made), "-o", str(rules), "--size", f"{name}=source.num_heads"]) == 0
    assert "warning" not in capsys.readouterr().err
    assert main(["adapt", str(rules), *models]) == 0
