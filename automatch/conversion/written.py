"""Whether what was written is what was planned."""

from __future__ import annotations

from collections.abc import Mapping

from automatch.core.graph import Shape


def told(dtype: str, shape: Shape) -> str:
    """What a tensor is, in words that are equal where tensors are alike."""
    return f"{dtype} {list(shape)}"


def differences(found: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
    """Where two lists of tensors part, a sentence each.

    Args:
        found: What every tensor that is there is.
        wanted: What those that were planned are to be.

    Example:
        >>> differences({"a": "float32 [2]", "b": "int64 []"}, {"a": "float32 [3]", "c": "int64 []"})
        ['b should not be there', 'a is float32 [2]', 'c is missing']
    """
    spare = [f"{key} should not be there" for key in sorted(found.keys() - wanted.keys())]
    other = [key for key, what in wanted.items() if found.get(key) != what]
    return spare + [f"{key} is {found[key]}" if key in found else f"{key} is missing" for key in other]
