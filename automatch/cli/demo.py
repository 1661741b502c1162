"""`automatch demo`: the pair of models the project began with, at full size and with real weights."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rich.text import Text

import automatch
from automatch import match
from automatch.cli.console import show
from automatch.cli.progress import progress, without_torch_logs
from automatch.errors import ModelError
from automatch.report.render import facts, heading, indented
from automatch.report.summary import summary

if TYPE_CHECKING:
    from torch import nn


def run(*, small: bool = True, full: bool = True) -> None:
    """Match the full-size pair on the meta device, then fill the small student from the small teacher.

    Args:
        small: Whether to run the small pair.
        full: Whether to run the full-size pair.

    Raises:
        ModelError: The models are not there, because this is no checkout.
        MappingError: The full-size pair does not come out as an expert mapped it by hand.
    """
    wan = _fixture("wan")
    if full:
        _full(wan)
    if small:
        _small(wan)


def _full(wan: ModuleType) -> None:
    """The published teacher and its student, without a byte of weights."""
    with progress() as stage, without_torch_logs():
        stage("building the full-size pair on the meta device")
        teacher, student = wan.teacher(), wan.student()
        inputs = {"source_inputs": wan.teacher_inputs(), "target_inputs": wan.student_inputs()}
        mapping = match(teacher, student, **inputs, progress=stage)
    report = mapping.check(_checkout() / "fixtures" / "expected" / "wan.json")
    show(
        [
            heading("1. Wan 2.2 at full size onto WanLite, on the meta device"),
            facts([("source", _size(teacher)), ("target", _size(student))]),
            Text(""),
            *summary(mapping.record),
            heading("Held against the mapping that an expert wrote by hand"),
            indented(str(report)),
        ]
    )
    report.raise_for_difference()


def _small(wan: ModuleType) -> None:
    """The same pair with real weights: match, apply, save, load strictly."""
    import torch
    from safetensors.torch import load_file, save_file

    with progress() as stage, without_torch_logs():
        stage("building the small pair with real weights")
        teacher, student = wan.small_teacher(), wan.small_student()
        inputs = {"source_inputs": wan.small_teacher_inputs(), "target_inputs": wan.small_student_inputs()}
        mapping = match(teacher, student, **inputs, progress=stage)
        stage("filling the student")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "student.safetensors"
            save_file(mapping.apply(teacher.state_dict()), file)
            size = file.stat().st_size
            loaded = student.load_state_dict(load_file(file), strict=True)
        args, kwargs = inputs["target_inputs"]
        with torch.no_grad():
            out = student(*args, **kwargs)
    show(
        [
            heading("2. The same pair, small, with real weights"),
            facts([("source", _size(teacher)), ("target", _size(student))]),
            Text(""),
            *summary(mapping.record),
            heading("3. Applied, saved, loaded"),
            facts(
                [
                    ("student.safetensors", f"{size:,} bytes"),
                    ("load_state_dict(strict=True)", str(loaded)),
                    (
                        "the student's forward",
                        f"{list(out.shape)}, {'finite' if out.isfinite().all() else 'not finite'}",
                    ),
                ]
            ),
        ]
    )


def _checkout() -> Path:
    """The folder that holds the package and, in a checkout, the models beside it."""
    return Path(automatch.__file__).resolve().parent.parent


def _fixture(name: str) -> ModuleType:
    """A module of the checkout's `fixtures` folder, which is no part of the installed package.

    Raises:
        ModelError: There is no such folder beside the package.
    """
    root = _checkout()
    if not (root / "fixtures" / f"{name}.py").is_file():
        raise ModelError(
            f"the demo's models are not installed with the package (looked for {root / 'fixtures'}); "
            "run it from a checkout: pip install -e . && automatch demo"
        )
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))
    return importlib.import_module(f"fixtures.{name}")


def _size(model: nn.Module) -> str:
    tensors = model.state_dict()
    numbers = sum(tensor.numel() for tensor in tensors.values())
    return f"{type(model).__name__}, {len(tensors):,} tensors, {numbers:,} numbers"
