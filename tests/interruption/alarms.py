"""Alarms that ring at a named moment, never after a time: at the n-th run of a model, or where a function begins."""

from __future__ import annotations

import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


class Stop(Exception):
    """What a user calls a time-out."""


KINDS: tuple[type[BaseException], ...] = (Stop, TimeoutError, RuntimeError, KeyboardInterrupt)


@dataclass
class Alarm:
    """A signal whose handler raises, and that is sent once."""

    kind: type[BaseException]
    raised: list[BaseException] = field(default_factory=list)

    def handler(self, _number: int, _frame: FrameType | None) -> None:
        self.raised.append(self.kind("time is up"))
        raise self.raised[-1]

    def ring(self) -> None:
        if not self.raised:
            signal.raise_signal(signal.SIGUSR1)


@contextmanager
def installed(handler: Any) -> Iterator[None]:
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, before)


@contextmanager
def entering(file: str, function: str, do: Callable[[], None]) -> Iterator[None]:
    """Do something as soon as a function in a file begins."""

    def seen(frame: FrameType, event: str, _given: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_name == function and code.co_filename.endswith(file):
            sys.setprofile(before)
            do()

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        yield
    finally:
        sys.setprofile(before)


class Runs:
    """How often models ran, and what happens in the middle of the n-th run."""

    count = 0
    last = 0

    @classmethod
    def one_more(cls) -> None:
        cls.count += 1
        if cls.count == cls.last:
            signal.raise_signal(signal.SIGUSR1)


@contextmanager
def in_run(number: int) -> Iterator[None]:
    Runs.count, Runs.last = 0, number
    try:
        yield
    finally:
        Runs.last = 0


class Plain(nn.Module):
    """Two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.drop = nn.Linear(4, 6), nn.Linear(6, 3), nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.a(x))
        Runs.one_more()
        made: Tensor = self.b(self.drop(x))
        return made


class Turned(nn.Module):
    """The same with a matrix that lies the other way, and its output times a factor."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.w, self.c, self.o = nn.Parameter(torch.randn(4, 6)), nn.Parameter(torch.randn(6)), nn.Linear(6, 3)
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(x @ self.w + self.c)
        Runs.one_more()
        made: Tensor = self.o(x) * self.factor
        return made


def uncopied() -> nn.Module:
    """A model whose forward is a function that holds on to it, so that a copy would not run on itself."""
    model = Plain()
    model.forward = lambda x: Plain.forward(model, x)  # type: ignore[method-assign]
    return model


def state(*models: nn.Module) -> dict[str, Any]:
    """What a caller has, and what must not change: the models, random numbers, switches of the process."""
    return {
        "models": [_marks(model) for model in models],
        "numbers": (random.getstate(), torch.get_rng_state().tolist(), np.random.get_state()[1].tolist()),  # type: ignore[index]  # noqa: NPY002
        "switches": (torch.is_grad_enabled(), torch.backends.mha.get_fastpath_enabled(), torch.get_default_dtype()),
        "modes": (torch._C._len_torch_function_stack(), torch._C._len_torch_dispatch_stack()),
        "keys": (torch._C._dispatch_tls_local_include_set(), torch._C._dispatch_tls_local_exclude_set()),
        "exporting": torch.compiler.is_exporting(),
        "warnings": (list(warnings.filters), warnings.showwarning),
        "streams": (sys.stdout, sys.stderr),
        "environment": dict(os.environ),
    }


def _marks(model: nn.Module) -> list[Any]:
    tensors = [(name, id(value), value.tolist(), value.requires_grad) for name, value in model.state_dict().items()]
    modules = [
        (name, module.training, {key: id(value) for key, value in vars(module).items()})
        for name, module in model.named_modules()
    ]
    hooks = [dict(module._forward_hooks) | dict(module._forward_pre_hooks) for module in model.modules()]
    own = {name: (id(value), value.requires_grad, value.grad) for name, value in model.named_parameters()}
    return [[tensor[:1] + tensor[2:] for tensor in tensors], modules, hooks, own]
