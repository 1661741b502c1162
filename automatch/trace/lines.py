"""Where in the model's code something was recorded or went wrong: module paths, source lines, exceptions."""

from __future__ import annotations

import linecache
import os
import re
import sysconfig
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_NUMBERS = re.compile(r"tensor\([^)]*\)")
_GENERATED = "<eval_with_key>"
_REPEATED_CALL = re.compile(r"@\d+$")
_TORCH = str(Path(torch.__file__).parent) + os.sep
_HERE = str(Path(__file__).parent) + os.sep
_STANDARD = tuple(
    path.rstrip(os.sep) + os.sep for path in {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
)
_PACKAGES = tuple(
    path.rstrip(os.sep) + os.sep for path in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
)


def module_path(stack: Mapping[str, Any] | None) -> str:
    """The innermost module's path, as `named_modules` spells it.

    Example:
        >>> module_path({"L__self__": ("", "Net"), "L__self___blocks_0": ("blocks.0@1", "Block")})
        'blocks.0'
    """
    if not stack:
        return ""
    path = str(list(stack.values())[-1][0])
    path = path.removeprefix("L['self']").removeprefix("L__self__").lstrip(".")
    return _REPEATED_CALL.sub("", path)


@dataclass(slots=True)
class CodeLines:
    """Finds the model's own line in recorded stack traces; remembers answers, since traces repeat."""

    known: dict[str, str] = field(default_factory=dict)

    def of(self, stack_trace: str | None) -> str:
        """The innermost frame outside torch (or, where there is none, inside it) as `"model.py:41"`."""
        if not stack_trace:
            return ""
        if stack_trace not in self.known:
            self.known[stack_trace] = _innermost(_FRAME.findall(stack_trace))
        return self.known[stack_trace]


def _innermost(frames: list[tuple[str, str]]) -> str:
    foreign = [frame for frame in frames if not frame[0].startswith((_TORCH, _HERE, _GENERATED))]
    chosen = (foreign or [frame for frame in frames if frame[0].startswith(_TORCH)])[-1:]
    return f"{Path(chosen[0][0]).name}:{chosen[0][1]}" if chosen else ""


def blame(error: BaseException) -> str:
    """What stopped a rung, on one line: the exception, its first line, and the model's line that was running."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    first = _NUMBERS.sub("tensor(...)", first.split(" (unhinted")[0])  # a meta tensor holds whatever is in memory
    what = f"{type(error).__name__}: {first}" if first else type(error).__name__
    where = _where(error)
    return f"{what} (at {where})" if where else what


def _where(error: BaseException) -> str:
    """The innermost frame of the model's code in an exception or in those that caused it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        frames = [frame for frame in traceback.extract_tb(current.__traceback__) if _is_model_code(frame.filename)]
        if frames:
            return _frame_text(frames[-1])
        current = current.__cause__ or current.__context__
    return ""


def _is_model_code(filename: str) -> bool:
    if filename.startswith((_TORCH, _HERE)):
        return False
    return filename.startswith(_PACKAGES) or not filename.startswith(_STANDARD)


def _frame_text(frame: traceback.FrameSummary) -> str:
    line = (frame.line or linecache.getline(frame.filename, frame.lineno or 0)).strip()
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    return f"{place}: {line}" if line else place
