"""What other programs may use, and what importing it costs; a change here is a change of the public interface."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest

import automatch
from automatch.core.graph import Rung
from automatch.core.mapping import Entry, Evidence, Status
from tests.cli.process import run_python

HEAVY = {"torch", "numpy", "scipy", "networkx", "safetensors", "rich"}

SIGNATURES: dict[str, list[str]] = {
    "match": [
        "source",
        "target",
        "*, source_inputs=None",
        "*, target_inputs=None",
        "*, layers='uniform'",
        "*, source_twin=None",
        "*, target_twin=None",
        "*, source_twin_inputs=None",
        "*, target_twin_inputs=None",
        "*, run=True",
        "*, device='auto'",
        "*, budget_s=600.0",
        "*, new_rows='mean'",
        "*, allow_untraced=False",
        "*, progress=False",
    ],
    "convert": [
        "checkpoint",
        "mapping",
        "out",
        "*, dtype=None",
        "*, max_shard_size=None",
        "*, entry=None",
        "*, tied='each'",
        "*, name='model'",
        "*, allow_unread=None",
        "*, checksums=True",
        "*, digests=False",
        "*, format='safetensors'",
        "*, progress=None",
    ],
    "load": ["path"],
    "load_into": [
        "model",
        "checkpoint",
        "mapping",
        "*, entry=None",
        "*, strict=True",
        "*, allow_unread=()",
        "*, checksums=True",
    ],
    "Mapping": ["record"],
    "Mapping.load": ["path"],
    "Mapping.apply": ["self", "state_dict", "*, allow_unread=None"],
    "Mapping.save": ["self", "path"],
    "Mapping.summary": ["self"],
    "Mapping.check": ["self", "expected"],
    "Mapping.rules": ["self", "more", "*, sizes=None"],
    "adapt": ["rules", "source", "target", "*, sizes=None"],
    "verify": ["checkpoint", "*, entry=None"],
    "suggest": ["source", "target=None", "*, library=()"],
    "RuleSet.load": ["path"],
    "RuleSet.save": ["self", "path"],
    "Mapping.inverse": ["self", "*, partial=False"],
    "Mapping.__getitem__": ["self", "target"],
}


def spelled(function: Callable[..., Any]) -> list[str]:
    """Every parameter: its name, its default, and a star where it goes by name only."""
    parameters = inspect.signature(function).parameters.values()
    return [
        ("*, " if each.kind is each.KEYWORD_ONLY else "")
        + each.name
        + (f"={each.default!r}" if each.default is not each.empty else "")
        for each in parameters
    ]


def found(path: str) -> Any:
    value: Any = automatch
    for name in path.split("."):
        value = getattr(value, name)
    return value


def test_the_public_names_are_these() -> None:
    functions = ["adapt", "convert", "load", "load_into", "match", "suggest", "verify"]
    assert automatch.__all__ == ["AutomatchError", "Mapping", "RuleSet", "__version__", *functions]
    assert all(hasattr(automatch, name) for name in automatch.__all__)


@pytest.mark.parametrize("path", SIGNATURES)
def test_public_functions_are_called_like_this(path: str) -> None:
    assert spelled(found(path)) == SIGNATURES[path]


def test_a_mapping_offers_these() -> None:
    offered = [name for name in vars(automatch.Mapping) if not name.startswith("_")]
    methods = ["apply", "check", "inverse", "load", "prove", "rules", "save", "summary"]
    assert sorted(offered) == sorted([*methods, "chains", "entries", "record", "unused", "verdict"])


def test_an_entry_and_its_evidence_have_these_fields() -> None:
    assert list(inspect.signature(Entry).parameters) == ["target", "shape", "dtype", "status", "expr", "evidence"]
    assert isinstance(Entry.sources, property)
    fields = ["method", "reasons", "cost", "margin", "rivals", "resized", "source_layer", "shown"]
    assert list(inspect.signature(Evidence).parameters) == fields


def test_statuses_and_rungs_are_these() -> None:
    assert get_args(Status) == ("proved", "structural", "guessed", "unmapped")
    assert get_args(Rung) == ("export", "draft_export", "recorder", "names")


def test_a_public_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fit'"):
        automatch.fit  # noqa: B018  # the lookup is what is tested


@pytest.mark.parametrize("module", ["automatch", "automatch.cli", "automatch.errors", "automatch.core.mapping"])
def test_importing_loads_nothing_heavy(module: str) -> None:
    done = run_python("-c", f"import sys, {module}; print(sorted({HEAVY!r}.intersection(sys.modules)))")
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


def test_the_package_says_that_it_is_typed_and_which_version_it_is() -> None:
    package = Path(automatch.__file__).parent
    assert (package / "py.typed").is_file()
    assert tomllib.loads((package.parent / "pyproject.toml").read_text())["project"]["version"] == automatch.__version__
