"""Files -> `Catalog`: which tensors a checkpoint holds, and where their bytes lie; no tensor is loaded."""

from __future__ import annotations

from automatch.checkpoint.catalog import Catalog, Stored
from automatch.checkpoint.loading import load_checkpoint
from automatch.checkpoint.open import open_checkpoint, read_shapes

__all__ = ["Catalog", "Stored", "load_checkpoint", "open_checkpoint", "read_shapes"]
