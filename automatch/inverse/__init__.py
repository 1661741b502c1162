"""`MappingRecord` -> the mapping back: every source weight, made of the target's, or the reason why it cannot be."""

from automatch.inverse.record import inverse

__all__ = ["inverse"]
