from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import automatch
from automatch.cli import app as commands
from automatch.cli import main
from automatch.core.expr import Source
from automatch.core.mapping_file import write
from tests.cli.process import ENVIRONMENT, run_python
from tests.report.records import record, teacher


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    """A mapping file of nine weights."""
    path = tmp_path / "mapping.json"
    write(record(), path)
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of the mapping's source."""
    path = tmp_path / "teacher.safetensors"
    save_file({weight.name: torch.randn(weight.shape) for weight in teacher().weights}, path)
    return path


def test_the_command_line_is_imported_without_anything_heavy() -> None:
    heavy = {"torch", "rich", "numpy", "scipy", "networkx", "safetensors"}
    code = f"import sys, automatch.cli; print({heavy!r}.intersection(sys.modules))"
    assert run_python("-c", code).stdout.strip() == "set()"


@pytest.mark.parametrize("words", [("--help",), ("match", "--help"), ("demo", "--help"), ()])
def test_help_needs_no_torch(words: tuple[str, ...]) -> None:
    code = f"import sys; from automatch.cli import main; sys.exit(main({list(words)!r}) or 'torch' in sys.modules)"
    done = run_python("-c", code)
    assert done.returncode == 0, done.stderr
    assert "Usage: automatch" in done.stdout


OPTIONS = (
    *("--output", "-o", "--source-inputs", "--target-input", "--layers", "--device", "--allow-untraced"),
    *("--run", "--no-run", "--budget-s", "--require", "--progress", "--no-progress", "--quiet"),
)


def test_every_option_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    main(["match", "--help"])
    said = capsys.readouterr().out
    assert [option for option in OPTIONS if option not in said] == []


def test_the_module_runs_as_the_command_does() -> None:
    done = run_python("-m", "automatch", "--version")
    assert (done.returncode, done.stdout.strip()) == (0, automatch.__version__)


@pytest.mark.parametrize("words", [["match", "a", "b"], ["nonsense"], ["show"], ["demo", "--nonsense"]])
def test_wrong_usage_is_an_error_without_a_traceback(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) != 0
    assert "Traceback" not in capsys.readouterr().err


def test_show_prints_the_summary_and_every_weight(mapping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(mapping)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("not run: ")
    assert "total                 9  100.0%" in said
    assert "layers.{i}.in_proj" in said
    assert "\x1b" not in said


def test_show_tells_everything_about_one_key_or_a_glob(mapping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(mapping), "layers.?.in_proj"]) == 0
    said = capsys.readouterr().out
    assert "layers.0.in_proj  [12, 4] float32" in said
    assert "layers.1.in_proj  [12, 4] float32" in said


def test_show_of_an_unknown_key_is_an_error(mapping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(mapping), "norm.weigth"]) == 2
    assert capsys.readouterr().err.startswith("error: no weight of the mapping is called 'norm.weigth'; did you mean")


@pytest.mark.parametrize("command", ["show", "rules"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"", "mapping.json"),
        (b"\xff\xfe\x00", "mapping.json"),
        (b"{", "mapping.json"),
        (b"[]", "mapping.json"),
        (b'{"format": "automatch.mapping", "version": 99}', "version"),
        (b'{"format": "something.else", "version": 1}', "format"),
    ],
)
def test_a_file_that_is_no_mapping_is_named(
    tmp_path: Path, command: str, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mapping.json"
    if content is not None:
        path.write_bytes(content)
    assert main([command, str(path)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "mapping.json" in said
    assert message in said


def test_a_mapping_damaged_by_hand_is_named_with_its_place(
    mapping: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(mapping.read_text())
    document["entries"][0]["status"] = "perhaps"
    mapping.write_text(json.dumps(document))
    assert main(["apply", str(mapping), str(checkpoint), "-o", str(tmp_path / "out.safetensors")]) == 2
    assert "perhaps" in capsys.readouterr().err
    assert not (tmp_path / "out.safetensors").exists()


def test_check_succeeds_where_all_is_as_expected(mapping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(mapping), str(mapping)]) == 0
    said = capsys.readouterr()
    assert "9 weights" in said.out
    assert said.out.startswith("not run: ")
    assert said.err.startswith(f"warning: {mapping}: no run of both models showed that this mapping is right")


def test_check_fails_with_status_one_where_something_differs(
    mapping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other.json"
    entries = [
        replace(entry, expr=Source("extra.0.bias", (8,))) if entry.target == "norm.weight" else entry
        for entry in record().entries
    ]
    write(replace(record(), entries=tuple(entries)), other)
    assert main(["check", str(mapping), str(other)]) == 1
    said = capsys.readouterr()
    assert "norm.weight" in said.out
    assert "extra.0.bias" in said.out
    assert said.err.endswith("exit status 1: the mapping is not as expected\n")


def test_check_without_an_expectation_is_an_error(mapping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(mapping), str(mapping.with_name("none.json"))]) == 2
    assert "none.json" in capsys.readouterr().err


def test_apply_and_convert_write_the_same_checkpoint(
    mapping: Path, checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert main(["apply", str(mapping), str(checkpoint), "-o", str(first)]) == 0
    assert main(["convert", str(checkpoint), "--mapping", str(mapping), "--output", str(second)]) == 0
    assert first.read_bytes() == second.read_bytes()
    assert torch.equal(load_file(first)["norm.weight"], load_file(checkpoint)["norm.weight"])
    assert f"wrote {first}: 8 of 9 weights of Student" in capsys.readouterr().out


def test_a_checkpoint_that_is_not_there_is_an_error_without_a_warning(
    mapping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    absent = str(tmp_path / "absent.safetensors")
    assert main(["apply", str(mapping), absent, "-o", str(tmp_path / "out.safetensors")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert "absent.safetensors" in said


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"\x10\x00\x00\x00\x00\x00\x00\x00{}"])
def test_a_checkpoint_that_is_none_leaves_nothing_behind(
    mapping: Path, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "wrong.safetensors"
    source.write_bytes(content)
    before = sorted(tmp_path.iterdir())
    assert main(["apply", str(mapping), str(source), "-o", str(tmp_path / "out.safetensors")]) == 2
    warning, said = capsys.readouterr().err.split("\n", 1)
    assert warning.startswith("warning: ")
    assert said.startswith("error: ")
    assert "wrong.safetensors" in said
    assert sorted(tmp_path.iterdir()) == before


def test_a_checkpoint_of_another_model_is_refused_and_the_old_output_stays(
    mapping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "other.safetensors", tmp_path / "out.safetensors"
    save_file({"norm.weight": torch.zeros(7)}, source)
    out.write_bytes(b"the old one")
    assert main(["apply", str(mapping), str(source), "-o", str(out)]) == 2
    assert "norm.weight" in capsys.readouterr().err
    assert out.read_bytes() == b"the old one"


def test_rules_are_printed(mapping: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rules", str(mapping)]) == 0
    assert "layers.{i}.in_proj" in capsys.readouterr().out


def test_an_interrupt_ends_with_its_own_status(
    mapping: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(commands, "_convert", interrupted)
    assert main(["apply", str(mapping), "x", "-o", "y"]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_a_bug_keeps_its_traceback(mapping: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise AssertionError("a bug")

    monkeypatch.setattr(commands, "_convert", broken)
    with pytest.raises(AssertionError, match="a bug"):
        main(["apply", str(mapping), "x", "-o", "y"])


def test_a_reader_that_goes_away_ends_the_command_quietly(mapping: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = [sys.executable, "-m", "automatch", "show", str(mapping)]
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")
