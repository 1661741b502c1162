"""Models and inputs of these tests are random, and the same in every run."""

from tests.prove.conftest import _seeded

__all__ = ["_seeded"]
