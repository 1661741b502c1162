"""Who corresponds to whom where one side, or both, is known by its state-dict keys and shapes alone."""

from automatch.align.names.align import align_names

__all__ = ["align_names"]
