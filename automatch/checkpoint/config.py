"""The configuration that lies beside a checkpoint: `config.json`, as far as it holds whole numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from automatch.core.json_fields import parse
from automatch.core.sizes import Sizes, folded, of_config
from automatch.errors import CheckpointError, MappingFormatError
from automatch.interruption import let_through

NAME = "config.json"


def config_beside(path: str | os.PathLike[str]) -> Sizes:
    """The whole numbers in the `config.json` of a checkpoint's folder; none where there is no such file.

    Raises:
        CheckpointError: The file is there and cannot be read as a JSON object.
    """
    config = _beside(path)
    return () if config is None else folded(dict(of_config(config)))


def quantised_by(path: str | os.PathLike[str]) -> str:
    """What says that a checkpoint is quantised, as the subject of a sentence; empty where nothing does.

    Raises:
        CheckpointError: The file is there and cannot be read as a JSON object.
    """
    config = _beside(path) or {}
    return f"{NAME} (quantization_config)" if config.get("quantization_config") else ""


def _beside(path: str | os.PathLike[str]) -> dict[Any, Any] | None:
    folder = Path(path) if Path(path).is_dir() else Path(path).parent
    file = folder / NAME
    if not file.is_file():
        return None
    try:
        config = parse(file.read_text(encoding="utf-8"), str(file))
    except (OSError, UnicodeDecodeError) as error:
        let_through(error)
        raise CheckpointError(f"{file} cannot be read: {error}\nNext: restore it, or take it away.") from None
    except MappingFormatError as error:
        raise CheckpointError(str(error)) from None
    if not isinstance(config, dict):
        raise CheckpointError(f"{file} is no JSON object.\nNext: restore it, or take it away.")
    return config
