"""Make a weight of another size that plays the same role: fewer or more channels, another kernel, one axis less."""

from __future__ import annotations

from automatch.resize.fit import Fitted, fit
from automatch.resize.grids import UnfitError

__all__ = ["Fitted", "UnfitError", "fit"]
