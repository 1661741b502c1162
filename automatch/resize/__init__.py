"""Make a weight of another size that plays the same role: fewer or more channels, another kernel, one axis less."""

from __future__ import annotations

from automatch.resize.fit import Fitted, fit

__all__ = ["Fitted", "fit"]
