"""The library of known conversions: what ships with the package, and folders of one's own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from automatch.errors import RulesError, together
from automatch.known.known import Known, loads, read

SHIPPED = "conversions"


@cache
def shipped() -> tuple[Known, ...]:
    """The conversions that ship with the package, by name; every one of them was proved by a run of both models."""
    folder = files("automatch.known").joinpath(SHIPPED)
    found = [each for each in folder.iterdir() if each.name.endswith(".toml")]
    return tuple(loads(each.read_text(encoding="utf-8"), each.name) for each in sorted(found, key=lambda e: e.name))


def library(folders: Sequence[str | os.PathLike[str]] = ()) -> tuple[Known, ...]:
    """The shipped conversions and those of some folders.

    Args:
        folders: Folders of files as `automatch remember` writes them; of equal names the last one counts.

    Raises:
        RulesError: A folder does not exist, or files are damaged; all of them are listed.
    """
    found = {known.name: known for known in shipped()}
    problems: list[str] = []
    for folder in folders:
        if not Path(folder).is_dir():
            problems.append(f"{os.fspath(folder)} is no folder")
            continue
        for path in sorted(Path(folder).glob("*.toml")):
            try:
                known = read(path)
            except RulesError as error:
                problems.append(str(error))
                continue
            found[known.name] = known
    if problems:
        raise together(RulesError, "the library cannot be read:", problems)
    return tuple(found.values())
