"""The trees that are measured, and how a row is run in one."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.ordinary.results import answer

ROOT = Path(__file__).resolve().parents[3]
CHILD = Path(__file__).with_name("child.py")


@dataclass(frozen=True, slots=True)
class Tree:
    """A folder with an automatch in it, and what to call it."""

    label: str
    path: Path


PRESENT = Tree("here", ROOT)


@contextmanager
def checked_out(commits: Sequence[str]) -> Iterator[tuple[Tree, ...]]:
    """The present tree, and a temporary one for every commit, which are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="automatch-") as folder, ExitStack() as stack:
        places = [Path(folder) / str(place) for place in range(len(commits))]
        others = [stack.enter_context(_worktree(*each)) for each in zip(commits, places, strict=True)]
        yield PRESENT, *others


@contextmanager
def _worktree(commit: str, path: Path) -> Iterator[Tree]:
    label = _git("rev-parse", "--short", "--verify", f"{commit}^{{commit}}")
    try:
        _git("worktree", "add", "--quiet", "--detach", str(path), commit)
        yield Tree(label, path)
    finally:
        _git("worktree", "remove", "--force", str(path))


def _git(*words: str) -> str:
    done = subprocess.run(("git", *words), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"git {' '.join(words)} failed")
    return done.stdout.strip()


def run(row: str, tree: Tree, timeout: float, *words: str) -> dict[str, Any] | str:
    """Run a row in a process of its own: what it found, or why it found nothing.

    Raises:
        OtherTree: It imported another automatch than the tree's.
    """
    # The rest of the path stays: a library may be installed there.
    path = os.pathsep.join(filter(None, (str(tree.path), os.environ.get("PYTHONPATH"))))
    command = (sys.executable, "-P", str(CHILD), row, *words)
    try:
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=timeout
        )
    except subprocess.TimeoutExpired:
        return f"over {timeout:g}"
    if done.returncode:
        last = (done.stderr.strip() or "nothing was printed").splitlines()[-1]
        return f"failed ({done.returncode}): {last}"
    return answer(done.stdout, tree.path)
