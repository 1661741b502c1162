"""Numbers that do not fit into memory lie in a file, and a proof on them shows the same."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from automatch.prove import Proof, prove_conversion
from automatch.prove.loading import drawn
from automatch.prove.room import Room
from automatch.prove.weights import Drawing
from tests.prove.nets import Fused, Split, fuse, tokens

POSIX = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="files are mapped where they can be reserved")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel lists what is mapped")


@pytest.fixture(autouse=True)
def _asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models ask for memory as well."""
    monkeypatch.setattr("automatch.prove.room.WORTH", 0)


@pytest.fixture
def cramped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without free memory; the folder of its temporary files."""
    monkeypatch.setattr("automatch.prove.room.available", lambda: 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def proof() -> Proof:
    return prove_conversion(fuse, Split(), Fused(), tokens(), tokens())


def mapped_files() -> set[str]:
    return {line for line in Path("/proc/self/maps").read_text().splitlines() if "automatch-" in line}


@POSIX
@LINUX
def test_numbers_lie_in_a_file_that_nobody_sees_and_that_goes_with_them(cramped: Path) -> None:
    model = nn.Sequential(nn.Linear(30, 40), nn.BatchNorm1d(40))
    drawing = Drawing.of(model, (), seed=5)
    wanted = {key: drawing.fresh(tensor) for key, tensor in model.state_dict().items()}
    with drawn(model, drawing) as numbers:
        assert len(mapped_files()) == 1
        assert not list(cramped.iterdir())
        held = numbers.state()
        assert all(torch.equal(held[key], value) for key, value in wanted.items())
        place = held["0.weight"].data_ptr()
        low, high = (int(end, 16) for end in next(iter(mapped_files())).split()[0].split("-"))
        assert low <= place < high
    del held, numbers
    assert not mapped_files()


@POSIX
def test_a_proof_on_numbers_in_a_file_shows_the_same(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wanted = proof()
    assert wanted.record.outcome == "agree"
    rooms: list[bool] = []
    make = Room.__init__

    def made(room: Room, tensors: list[Tensor]) -> None:
        make(room, tensors)
        rooms.append(room.mapped)

    monkeypatch.setattr(Room, "__init__", made)
    monkeypatch.setattr("automatch.prove.room.available", lambda: 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert proof() == wanted
    assert rooms
    assert all(rooms)
    assert not list(tmp_path.iterdir())


def test_where_the_disk_has_no_room_either_memory_is_taken(cramped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.posix_fallocate", full, raising=False)
    room = Room([torch.ones(3, 4)])
    assert not room.mapped
    assert room.like(torch.ones(3, 4)).shape == (3, 4)
    assert not list(cramped.iterdir())


def test_numbers_that_fit_and_what_is_not_known_to_fit_stay_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for free in (2 * 8 * 12, None):
        monkeypatch.setattr("automatch.prove.room.available", lambda free=free: free)
        assert not Room([torch.ones(3, 4)]).mapped


def test_every_tensor_has_a_place_of_its_own_in_its_own_layout(cramped: Path) -> None:
    images = torch.ones(2, 3, 4, 5).to(memory_format=torch.channels_last)
    tensors = [torch.ones(3, 4), images, torch.ones(7)]
    room = Room(tensors)
    made = [room.like(tensor) for tensor in tensors]
    assert [each.stride() for each in made] == [tensor.stride() for tensor in tensors]
    for number, each in enumerate(made):
        each.fill_(float(number))
    assert [sorted(set(each.flatten().tolist())) for each in made] == [[0.0], [1.0], [2.0]]
