"""What a conversion leaves when it is stopped: nothing that looks whole, and a right result on the next run."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from automatch.conversion.convert import Format, convert
from automatch.core.mapping_file import write
from automatch.errors import CheckpointError
from tests.conversion.checkpoints import mixed, moved, save
from tests.interruption.alarms import installed

SHARD = 60_000
"""Bytes a file: two tensors of the `moved` mapping's four."""

SLOW = """
import sys, time
from automatch.conversion.convert import convert
from automatch.conversion import copying
copying.STRETCH = 8192
print("ready", flush=True)
convert(sys.argv[1], sys.argv[2], sys.argv[3], max_shard_size=int(sys.argv[4]),
        progress=lambda done, total: time.sleep(0.004))
"""


def content(folder: Path) -> dict[str, bytes]:
    """The files of a folder; what is hidden in it is no output."""
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if not path.name.startswith(".")}


def looks_whole(folder: Path) -> bool:
    """Whether a loader would take a folder for a checkpoint: without their index, shards are none."""
    return (folder / "model.safetensors.index.json").exists()


def hidden(folder: Path) -> list[Path]:
    return list(folder.rglob(".*"))


@pytest.fixture
def whole(tmp_path: Path) -> dict[str, bytes]:
    """What an undisturbed conversion writes."""
    save(moved(), tmp_path / "old.safetensors")
    convert(tmp_path / "old.safetensors", moved(), tmp_path / "undisturbed", max_shard_size=SHARD)
    assert len(content(tmp_path / "undisturbed")) == 6
    return content(tmp_path / "undisturbed")


def test_twenty_kills_at_random_moments_leave_nothing_half(tmp_path: Path, whole: dict[str, bytes]) -> None:
    write(moved(), tmp_path / "m.json")
    out = tmp_path / "new"
    arguments = [str(tmp_path / "old.safetensors"), str(tmp_path / "m.json"), str(out), str(SHARD)]
    draw = random.Random(0)
    unfinished = 0
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", SLOW, *arguments], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(draw.uniform(0.0, 0.12))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert not looks_whole(out) or content(out) == whole
        unfinished += not out.exists()
        shutil.rmtree(out, ignore_errors=True)
    assert unfinished > 5, "hardly a kill came before the end"
    convert(tmp_path / "old.safetensors", moved(), out, max_shard_size=SHARD)
    assert content(out) == whole
    assert not hidden(tmp_path)


CALLS = ("replace", "rename", "fsync", "copy_file_range", "pwrite", "unlink", "rmdir", "mkdir")


def dying_at(moment: int, action: Callable[[], object]) -> bool:
    """Run something in a copy of this process that dies at its n-th call of the system; whether it came to its end."""
    child = os.fork()
    if child:
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 9), "it failed, and was not stopped"
        return code == 0
    left = moment

    def counting(call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                os._exit(9)
            return call(*given, **named)

        return counted

    for name in CALLS:
        setattr(os, name, counting(getattr(os, name)))
    try:
        action()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


@pytest.mark.parametrize("before", ["nothing", "an older conversion"])
def test_a_death_at_any_call_of_the_system_leaves_nothing_half(
    tmp_path: Path, whole: dict[str, bytes], before: str
) -> None:
    out, moment, died = tmp_path / "new", 0, 0
    older: dict[str, bytes] = {}
    if before != "nothing":
        convert(tmp_path / "old.safetensors", moved(), out, max_shard_size=SHARD // 2, dtype="bfloat16")
        older = content(out)
    while not dying_at(moment, lambda: convert(tmp_path / "old.safetensors", moved(), out, max_shard_size=SHARD)):
        assert not looks_whole(out) or content(out) in (older, whole)
        moment, died = moment + 1, died + 1
    assert died > 10
    assert content(out) == whole
    assert not hidden(tmp_path)


def test_complete_files_of_an_interrupted_run_are_taken_over(tmp_path: Path, whole: dict[str, bytes]) -> None:
    out = tmp_path / "new"

    class Stop(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise Stop

    with pytest.raises(Stop):
        convert(tmp_path / "old.safetensors", moved(), out, max_shard_size=SHARD, progress=stop)
    assert not out.exists()
    told: list[tuple[int, int]] = []
    done = convert(
        tmp_path / "old.safetensors",
        moved(),
        out,
        max_shard_size=SHARD,
        progress=lambda done, total: told.append((done, total)),
    )
    assert done.resumed == ("model-00001-of-00004.safetensors", "model-00002-of-00004.safetensors")
    assert told[-1] == (2 * 49_152, 2 * 49_152)
    assert content(out) == whole


@pytest.mark.parametrize("format", ["safetensors", "dcp"])
@pytest.mark.parametrize("kind", [TimeoutError, RuntimeError, ValueError])
@pytest.mark.parametrize("by_signal", [False, True], ids=["progress", "signal"])
def test_what_the_caller_raises_is_not_taken_for_a_file_that_cannot_be_written(
    tmp_path: Path, format: Format, kind: type[Exception], by_signal: bool
) -> None:
    save(moved(), tmp_path / "old.safetensors")
    raised = kind("time is up")

    def stop(*_: object) -> None:
        raise raised

    told = (lambda *_: signal.raise_signal(signal.SIGUSR1)) if by_signal else stop
    with installed(stop), pytest.raises(kind) as caught:
        convert(tmp_path / "old.safetensors", moved(), tmp_path / "new", format=format, progress=told)
    assert caught.value is raised
    assert not (tmp_path / "new").exists()


def test_what_another_conversion_has_begun_is_not_taken_over(tmp_path: Path, whole: dict[str, bytes]) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise KeyboardInterrupt

    source, out = tmp_path / "old.safetensors", tmp_path / "new"
    with pytest.raises(KeyboardInterrupt):
        convert(source, moved(), out, max_shard_size=SHARD, progress=stop)
    time.sleep(0.02)
    other = source.read_bytes()
    source.write_bytes(other[:-8] + bytes(8))
    done = convert(source, moved(), out, max_shard_size=SHARD)
    assert done.resumed == ()
    assert content(out).keys() == whole.keys()
    assert content(out) != whole


def test_two_conversions_do_not_write_one_output(tmp_path: Path, whole: dict[str, bytes]) -> None:
    source, out = tmp_path / "old.safetensors", tmp_path / "new"
    caught: list[str] = []

    def again(done: int, total: int) -> None:
        try:
            convert(source, moved(), out, max_shard_size=SHARD)
        except CheckpointError as error:
            caught.append(str(error))

    convert(source, moved(), out, max_shard_size=SHARD, progress=again)
    assert caught
    assert all("another conversion is writing" in each for each in caught)
    assert content(out) == whole


LIMITED = """
import resource, signal, sys
from automatch.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
sys.exit(main(sys.argv[2:]))
"""


def test_a_disk_that_takes_no_more_is_said_and_nothing_is_left(tmp_path: Path) -> None:
    save(mixed(), tmp_path / "old.safetensors")
    write(mixed(), tmp_path / "m.json")
    command = ["convert", str(tmp_path / "old.safetensors"), "--mapping", str(tmp_path / "m.json"), "-o"]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, "100000", *command, str(tmp_path / "new.safetensors")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert f"error: {tmp_path}/new.safetensors cannot be written: File too large" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "old.safetensors"]


def test_a_disk_with_too_little_room_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(moved(), tmp_path / "old.safetensors")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("automatch.conversion.staging.shutil.disk_usage", lambda _: usage)
    with pytest.raises(CheckpointError, match="bytes, but its disk has 1,000 free; make room"):
        convert(tmp_path / "old.safetensors", moved(), tmp_path / "new.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["old.safetensors"]


def test_a_folder_with_foreign_files_is_left_alone(tmp_path: Path) -> None:
    save(moved(), tmp_path / "old.safetensors")
    strange = tmp_path / ".new.safetensors.converting"
    strange.mkdir()
    (strange / "letter.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds 'letter.txt', which no conversion wrote; move it away"):
        convert(tmp_path / "old.safetensors", moved(), tmp_path / "new.safetensors")
    assert (strange / "letter.txt").read_text() == "mine"


def test_nothing_behind_a_link_is_deleted(tmp_path: Path) -> None:
    save(moved(), tmp_path / "old.safetensors")
    precious = tmp_path / "home" / "files" / "precious"
    precious.parent.mkdir(parents=True)
    precious.write_text("mine")
    staging = tmp_path / ".new.safetensors.converting"
    staging.symlink_to("home")
    with pytest.raises(CheckpointError, match=r"\.converting is a link, which no conversion made; remove it"):
        convert(tmp_path / "old.safetensors", moved(), tmp_path / "new.safetensors")
    staging.unlink()
    staging.mkdir()
    (staging / "files").symlink_to(precious.parent)
    with pytest.raises(CheckpointError, match="files is a link, which no conversion made; remove it"):
        convert(tmp_path / "old.safetensors", moved(), tmp_path / "new.safetensors")
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("format", ["safetensors", "dcp"])
def test_a_source_that_changes_while_it_is_converted_gives_no_output(tmp_path: Path, format: Format) -> None:
    save(moved(), tmp_path / "old.safetensors")

    def train_on(done: int, total: int) -> None:
        with (tmp_path / "old.safetensors").open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"new!")
        os.utime(tmp_path / "old.safetensors", (1, 1))

    with pytest.raises(CheckpointError, match="changed while they were converted; convert again when they are at rest"):
        convert(tmp_path / "old.safetensors", moved(), tmp_path / "new", format=format, progress=train_on)
    assert not (tmp_path / "new").exists()
