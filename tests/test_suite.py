"""The suite itself: nothing in it depends on how fast a machine is."""

from __future__ import annotations

from hypothesis import settings


def test_no_example_has_a_deadline() -> None:
    assert settings().deadline is None
    assert settings.get_profile("suite").deadline is None
