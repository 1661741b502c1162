"""Mappings that may well be right and cost nothing to think of: a run of both models tells which is."""

from automatch.propose.proposals import proposals

__all__ = ["proposals"]
