"""Whether a mapping's source is the one that a mapping file was made for, weight for weight."""

from __future__ import annotations

import os

from automatch.apply.fit import Held, fit
from automatch.core import mapping_json
from automatch.core.json_fields import parse
from automatch.core.mapping import MappingRecord
from automatch.core.mapping_file import read, read_text
from automatch.errors import MappingError


def strangers(record: MappingRecord, expected: str | os.PathLike[str]) -> str:
    """In what a mapping's source does not fit a mapping file; empty where it does, or the file is of another kind.

    Args:
        record: The mapping.
        expected: The path of a mapping file, or of an expectation file, which does not tell what the source had.
    """
    document = parse(read_text(expected, "expectation file"), os.fspath(expected))
    if not isinstance(document, dict) or document.get("format") != mapping_json.FORMAT:
        return ""
    held = {key: Held(weight.shape, weight.dtype) for weight in record.source.weights for key in weight.keys}
    try:
        fit(read(expected), held, "the source", same=lambda one, other: True)  # without numbers, ties cannot differ
    except MappingError as error:
        return str(error)
    return ""
