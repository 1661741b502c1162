"""What an exception leaves when it passes: the process as the caller had it.

Every change of a switch is put back by the block that made it (`isolate`, torch's own). An interruption may come in the
middle of that, and torch has such places in plenty; then it is put back here, at the end of what the caller called.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch._logging._internal import DTRACE_ENV_VAR
from torch.utils import _python_dispatch

CHATTY = (
    "torch.fx.experimental.symbolic_shapes",
    "torch.export",
    "torch.export._draft_export",
    "torch._export.non_strict_utils",
)
"""Loggers that tell of every attempt to export."""

_ON_FUNCTIONS: Any = torch.overrides  # torch does not type what stands here
_ON_OPERATORS: Any = _python_dispatch
_ON_EXPORT: Any = torch._ops
_CUDA: Any = torch.cuda

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def undisturbed(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """A function that runs models, such that an exception out of it leaves the process's switches as they were."""

    @wraps(function)
    def called(*given: _Given.args, **named: _Given.kwargs) -> _Result:
        before = _Switches.now()
        try:
            with torch._C._PreserveDispatchKeyGuard():
                return function(*given, **named)
        except BaseException:
            surely(before.put_back)
            raise

    return called


def surely(put_back: Callable[[], None]) -> None:
    """Put something back, from the start again where an interruption comes in between."""
    try:
        put_back()
    except BaseException:
        put_back()
        raise


@dataclass(frozen=True, slots=True)
class _Switches:
    """What running a model may change for all of the process."""

    modes: tuple[tuple[Any, ...], tuple[Any, ...], int]
    gradients: bool
    fast_path: bool
    numbers: tuple[Any, Any, torch.Tensor, tuple[torch.Tensor, ...]]
    warned: tuple[list[Any], Callable[..., Any]]
    stderr: Any
    silenced: tuple[bool, ...]
    reports: str | None

    @staticmethod
    def now() -> _Switches:
        devices = _CUDA.get_rng_state_all() if _CUDA.is_initialized() else []
        return _Switches(
            _modes(),
            torch.is_grad_enabled(),
            torch.backends.mha.get_fastpath_enabled(),
            (random.getstate(), np.random.get_state(), torch.get_rng_state(), tuple(devices)),  # noqa: NPY002
            (list(warnings.filters), warnings.showwarning),
            sys.stderr,
            tuple(logging.getLogger(name).disabled for name in CHATTY),
            os.environ.get(DTRACE_ENV_VAR),
        )

    def put_back(self) -> None:
        self._modes_back()
        torch._C._set_grad_enabled(self.gradients)
        torch.backends.mha.set_fastpath_enabled(self.fast_path)
        self._numbers_back()
        sys.stderr = self.stderr
        for name, disabled in zip(CHATTY, self.silenced, strict=True):
            logging.getLogger(name).disabled = disabled
        if self.reports is None:
            os.environ.pop(DTRACE_ENV_VAR, None)
        else:
            os.environ[DTRACE_ENV_VAR] = self.reports
        filters, warnings.showwarning = self.warned
        if list(warnings.filters) != filters:
            warnings.resetwarnings()
            warnings.filters[:] = filters  # type: ignore[index]  # a list, whatever its type says

    def _modes_back(self) -> None:
        """Modes first: torch would go through those that were left behind for all that follows."""
        functions, operators, exporting = self.modes
        while _ON_EXPORT._len_torch_dispatch_stack_pre_dispatch() > exporting:
            _ON_EXPORT._pop_mode_from_pre_dispatch()
        if not _same(_modes()[1], operators):
            while torch._C._len_torch_dispatch_stack():
                _ON_OPERATORS._pop_mode()
            for mode in operators:
                _ON_OPERATORS._push_mode(mode)
        if not _same(_modes()[0], functions):
            while torch._C._len_torch_function_stack():
                _ON_FUNCTIONS._pop_mode()
            for mode in functions:
                _ON_FUNCTIONS._push_mode(mode)

    def _numbers_back(self) -> None:
        python, legacy, torchs, devices = self.numbers
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
        torch.set_rng_state(torchs)
        if devices:
            _CUDA.set_rng_state_all(devices)


def _modes() -> tuple[tuple[Any, ...], tuple[Any, ...], int]:
    return (
        tuple(_ON_FUNCTIONS._get_current_function_mode_stack()),
        tuple(_ON_OPERATORS._get_current_dispatch_mode_stack()),
        _ON_EXPORT._len_torch_dispatch_stack_pre_dispatch(),
    )


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return len(one) == len(other) and all(a is b for a, b in zip(one, other, strict=True))
