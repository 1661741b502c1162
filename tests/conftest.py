"""How the suite is spread over processes: one thread each, and what takes longest first."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

LONGEST = ("tests/sentences/", "tests/fuzz/", "tests/lift/")
"""Folders whose tests would keep one process busy when the others are done."""

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported


# how long an example takes says something of the machine, never of the code
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.nodeid.startswith(LONGEST))
