"""A model or a checkpoint becomes a `Graph`: the ladder of recorders, and readers of checkpoints."""

from __future__ import annotations

from automatch.checkpoint import load_checkpoint, read_shapes
from automatch.trace.ladder import trace

__all__ = ["load_checkpoint", "read_shapes", "trace"]
