"""Tracing leaves no mark: a stand-in for the caller's model, and the process's random state and switches put back.

The stand-in is a deep copy that shares parameters and buffers with the original, so that nothing is materialised and
no weight is copied, while everything that a forward may assign (flags, counters, caches) is its own. Plain tensor
attributes are copied as well: `torch.export` writes to them for real when a forward changes them in place.
"""

from __future__ import annotations

import copy
import io
import logging
import random
import sys
import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stderr
from types import FunctionType
from typing import Any, TextIO

import numpy as np
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from automatch.interruption import let_through
from automatch.trace.leaves import tensor_leaves
from automatch.trace.undisturbed import CHATTY, surely


@contextmanager
def stand_in(model: nn.Module, replaced: Callable[[torch.Tensor], torch.Tensor] | None = None) -> Iterator[nn.Module]:
    """An eval-mode stand-in for a model, with gradients, fused fast paths and console noise off while it is in use.

    It returns the tuple of the tensors in its output, whatever objects hold them.

    Args:
        model: The caller's model; in the end as it was.
        replaced: What takes the place of each parameter and buffer; None shares them.
    """
    with ExitStack() as stack:
        stack.enter_context(torch.no_grad())
        stack.enter_context(_same_random_state(model))
        stack.enter_context(_no_fast_path())
        stack.enter_context(_quiet())
        copied = _copied(model, replaced)
        if copied is None and replaced is not None:
            raise TypeError("the model cannot be copied, so its tensors cannot be replaced for a trial")
        if copied is None:
            copied = model
            stack.enter_context(_put_back(model))
        else:
            stack.callback(_emptied, copied)
        copied.eval()
        stack.callback(RemovableHandle.remove, copied.register_forward_hook(_return_leaves))
        yield copied


def duplicate(tensor: torch.Tensor) -> torch.Tensor:
    """A copy with numbers of its own, a parameter if it was one; for runs that may write to it."""
    copied = tensor.detach().clone()
    return nn.Parameter(copied, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else copied


def _return_leaves(_module: nn.Module, _args: object, output: object) -> tuple[torch.Tensor, ...]:
    return tensor_leaves(output)


def _emptied(copied: nn.Module) -> None:
    """Lets go of a copy's tensors at once: modules often refer to each other in cycles, which are collected late."""
    for module in copied.modules():
        module._parameters.clear()
        module._buffers.clear()


def _copied(model: nn.Module, replaced: Callable[[torch.Tensor], torch.Tensor] | None) -> nn.Module | None:
    """A deep copy around the same tensors (or their replacements); None where the model cannot be copied."""
    if any(isinstance(vars(module).get("forward"), FunctionType) for module in model.modules()):
        return None  # a function set as forward holds on to the original modules, so a copy would run those
    tensors = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {id(tensor): tensor if replaced is None else replaced(tensor) for tensor in tensors}
    # a module has a dozen empty tables of hooks, which take most of a copy's time
    held = (value for module in model.modules() for value in vars(module).values())
    memo |= {id(value): type(value)() for value in held if type(value) in (dict, OrderedDict, set) and not value}
    try:
        with _CopyPlainTensors():
            return copy.deepcopy(model, memo)
    except Exception as error:  # any attribute may refuse in any way: locks, handles, generators
        let_through(error)
        return None


class _CopyPlainTensors(TorchFunctionMode):
    """Lets `deepcopy` copy tensors that autograd made, which it otherwise refuses."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if func is torch.Tensor.__deepcopy__:
            tensor, memo = args
            memo[id(tensor)] = duplicate = tensor.detach().clone()
            return duplicate
        return func(*args, **(kwargs or {}))


@contextmanager
def _put_back(model: nn.Module) -> Iterator[None]:
    """Restores every attribute of every submodule, also the tables of parameters, buffers and hooks."""
    attributes = {module: dict(vars(module)) for module in model.modules()}
    tables = [
        (value, dict(value)) for state in attributes.values() for value in state.values() if isinstance(value, dict)
    ]

    def put_back() -> None:
        for module, state in attributes.items():
            vars(module).clear()
            vars(module).update(state)
        for table, content in tables:
            table.clear()
            table.update(content)

    try:
        yield
    finally:
        surely(put_back)


@contextmanager
def _same_random_state(model: nn.Module) -> Iterator[None]:
    """Runs with a fixed seed and puts the caller's generators back: torch's, Python's and numpy's."""
    devices = sorted({tensor.device.index for tensor in model.parameters() if tensor.device.type == "cuda"})
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the model's code may draw from it
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(0)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(0)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)  # noqa: NPY002


@contextmanager
def _no_fast_path() -> Iterator[None]:
    """Records attention as its parts: the fused path is one opaque operator."""
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings, no log lines and no dumped graphs: the notes tell of failures, and nobody asked for an export."""
    loggers = [logging.getLogger(name) for name in CHATTY]
    before = [logger.disabled for logger in loggers]
    try:
        for logger in loggers:
            logger.disabled = True
        with warnings.catch_warnings(), redirect_stderr(_SilentHere(sys.stderr)):
            # The model's own code and torch's exporter warn about being traced, which is none of the caller's doing.
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled


class _SilentHere(io.TextIOBase):
    """Standard error for every thread but this one: a progress display may go on while torch dumps its graphs."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.thread = threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self.thread:
            return self.stream.write(text)
        return len(text)

    def flush(self) -> None:
        self.stream.flush()

    def isatty(self) -> bool:
        return self.stream.isatty()
