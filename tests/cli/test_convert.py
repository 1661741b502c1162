from __future__ import annotations

import io
from pathlib import Path

import pytest

from automatch.cli import main
from automatch.cli.throughput import throughput as shown
from automatch.core.mapping_file import write
from tests.cli.process import run_python
from tests.conversion.checkpoints import mixed, moved, save


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    save(mixed(1), tmp_path / "old.safetensors")
    write(mixed(1), tmp_path / "m.json")
    return ["convert", str(tmp_path / "old.safetensors"), "--mapping", str(tmp_path / "m.json")]


def warning(folder: Path) -> str:
    """What is said of a mapping that nobody ran."""
    return (
        f"warning: {folder / 'm.json'}: no run of both models showed that this mapping is right; "
        "what is made by it may be wrong"
    )


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "-o", str(tmp_path / "new"), "--dry-run", "--max-shard-size", "80kB"]) == 0
    out, err = capsys.readouterr()
    lines = [" ".join(line.split()) for line in out.splitlines()]
    head = lines.index("tensors count size how")
    assert lines[head + 1 : head + 4] == [
        "moved 2 96.3 kB byte ranges copied from file to file",
        "permuted 1 24.6 kB entries in another order, in tiles",
        "computed 1 256 B arithmetic, constants and casts, in tiles",
    ]
    assert any(line.startswith("writes model-00001-of-00002.safetensors (73,") for line in lines)
    assert err.splitlines() == [warning(tmp_path)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "old.safetensors"]


def test_a_dry_run_tells_what_the_real_one_writes(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.safetensors"
    assert main([*words, "-o", str(out), "--dry-run"]) == 0
    planned = capsys.readouterr().out
    assert main([*words, "-o", str(out), "--quiet"]) == 0
    assert f"{out.stat().st_size:,} bytes" in planned


def test_what_a_dry_run_of_a_distributed_checkpoint_writes_depends_on_the_processes(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "-o", str(tmp_path / "new"), "--dry-run", "--format", "dcp"]) == 0
    assert "a file a process, and .metadata" in capsys.readouterr().out


def test_elsewhere_than_on_a_terminal_progress_is_plain_lines(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*words, "-o", str(tmp_path / "new.safetensors")]) == 0
    out, err = capsys.readouterr()
    doubt, line = err.splitlines()
    assert doubt == warning(tmp_path)
    assert line.startswith("100%  121 kB of 121 kB  ")
    assert out.endswith("4 of 4 weights of New, 121 kB\n")


def test_a_long_conversion_says_now_and_then_how_long_it_will_take(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = iter([0.0, 4.0, 10.0, 12.0, 20.0])
    monkeypatch.setattr("automatch.cli.throughput.time.perf_counter", lambda: next(moments))
    with shown() as told:
        assert told is not None
        for done in (10, 50, 60, 100):
            told(done * 10**6, 100 * 10**6)
    assert capsys.readouterr().err.splitlines() == [
        "50%  50.0 MB of 100 MB  5.00 MB/s  10 s left",
        "100%  100 MB of 100 MB  5.00 MB/s  in 20.0 s",
    ]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_progress_is_a_bar_with_rate_and_time(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("sys.stderr", terminal)
    with shown() as told:
        assert told is not None
        told(50 * 10**6, 100 * 10**6)
        told(100 * 10**6, 100 * 10**6)
    assert "100.0/100.0 MB" in terminal.getvalue()


def test_a_conversion_that_only_moves_imports_no_torch(tmp_path: Path) -> None:
    save(moved(), tmp_path / "old.safetensors")
    write(moved(), tmp_path / "m.json")
    code = (
        "import sys; from automatch.cli import main; "
        f"status = main(['convert', {str(tmp_path / 'old.safetensors')!r}, '--mapping', {str(tmp_path / 'm.json')!r}, "
        f"'-o', {str(tmp_path / 'new.safetensors')!r}, '--quiet']); "
        "print(status, sorted({'torch', 'scipy', 'networkx', 'safetensors'} & sys.modules.keys()))"
    )
    done = run_python("-c", code)
    assert done.stdout.splitlines()[-1] == "0 []", done.stderr


def test_problems_are_told_without_a_traceback(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "old.safetensors").write_bytes((tmp_path / "old.safetensors").read_bytes()[:-5])
    assert main([*words, "-o", str(tmp_path / "new.safetensors")]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"{warning(tmp_path)}\nerror: {tmp_path}/old.safetensors: ")
    assert not (tmp_path / "new.safetensors").exists()
