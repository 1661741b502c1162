"""Model libraries, imported only when a row needs them."""
# mypy: disable-error-code="no-untyped-call"
# (torch leaves declarations of operators untyped)

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch

_DECLARED: list[torch.library.Library] = []
"""Declarations last as long as the object that made them."""


def library(name: str) -> Any:
    """A model library; torchvision goes first, because the others import it where it is installed."""
    if find_spec("torchvision") is not None:
        _torchvision()
    return import_module(name)


@cache
def _torchvision() -> Any:
    """The library, also beside a torch that its compiled operators were not built for, as CPU builds often are.

    Its Python part says what `nms` and `qnms` do to shapes, and does not import while nobody has declared them. No
    classifier calls them, so that a declaration without an implementation will do.
    """
    try:
        return import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::nms does not exist" not in str(error):
            raise
    declared = torch.library.Library("torchvision", "DEF")
    for operator in ("nms", "qnms"):
        declared.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _DECLARED.append(declared)
    return import_module("torchvision")
