"""The forms by name, and the command that writes them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from automatch.cli.exporting import run
from automatch.core.expr import Concat, Source
from automatch.core.mapping_file import write
from automatch.errors import AutomatchError, RulesError
from automatch.exporters import FORMS, export
from automatch.rules.file import write as write_rules
from tests.apply.records import entry, record
from tests.cli.process import run_python
from tests.exporters.support import module_of, rules_of

RULES = rules_of('[proved]\n"h.{i}.w" = "l.{i}.v"')


@pytest.mark.parametrize("form", FORMS)
def test_a_rules_file_becomes_a_module(form: str, tmp_path: Path) -> None:
    write_rules(RULES, tmp_path / "rules.toml")
    run(tmp_path / "rules.toml", form, tmp_path / "module.py")  # type: ignore[arg-type]
    assert (tmp_path / "module.py").read_text() == export(RULES, form)  # type: ignore[arg-type]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["module.py", "rules.toml"]


def test_a_mapping_file_becomes_a_module(tmp_path: Path) -> None:
    parts = [tuple(Source(f"l.{i}.{name}", (2, 3)) for name in "qkv") for i in range(3)]
    write(record(*(entry(f"h.{i}.qkv", Concat(part)) for i, part in enumerate(parts))), tmp_path / "mapping.json")
    run(tmp_path / "mapping.json", "python", tmp_path / "module.py")
    module = module_of((tmp_path / "module.py").read_text(), tmp_path)
    weights = {f"l.{i}.{name}": torch.full((2, 3), i + place / 4) for i in range(5) for place, name in enumerate("qkv")}
    found = module.convert(weights)
    assert sorted(found) == [f"h.{i}.qkv" for i in range(5)]
    assert found["h.4.qkv"][:, 0].tolist() == [4, 4, 4.25, 4.25, 4.5, 4.5]


def test_without_an_output_the_module_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_rules(RULES, tmp_path / "rules.toml")
    run(tmp_path / "rules.toml", "python", None)
    assert capsys.readouterr().out == export(RULES, "python")


def test_nothing_is_written_where_rules_are_refused(tmp_path: Path) -> None:
    write_rules(rules_of('[structural]\n"a" = "resize(b)"'), tmp_path / "rules.toml")
    with pytest.raises(RulesError, match="a: a resized weight is not exact"):
        run(tmp_path / "rules.toml", "python", tmp_path / "module.py")
    assert [path.name for path in tmp_path.iterdir()] == ["rules.toml"]


@pytest.mark.parametrize(("name", "text"), [("none.toml", None), ("bad.toml", "= 1"), ("bad.json", "{")])
def test_what_cannot_be_read_is_an_error(name: str, text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(AutomatchError, match=name):
        run(tmp_path / name, "python", None)


def test_exporting_loads_no_torch() -> None:
    told = run_python("-c", "import sys, automatch.exporters; print('torch' in sys.modules)")
    assert told.stdout.strip() == "False"
