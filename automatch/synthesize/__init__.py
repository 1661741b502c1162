"""From who corresponds to whom to an expression per target weight."""

from __future__ import annotations

from automatch.synthesize.entries import synthesize

__all__ = ["synthesize"]
