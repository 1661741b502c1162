"""For the tests of other libraries: known mappings as files, and an assertion that they still come out.

`pytest -p automatch.testing` (or `addopts = "-p automatch.testing"`) adds the option `--update`, which rewrites files
that a mapping no longer meets. See `docs/testing.md`.
"""

from __future__ import annotations

import os
from collections import abc
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

    from automatch.core.mapping_file import MappingLike
    from automatch.mapping import Mapping
    from automatch.matching import Model

UPDATE = "AUTOMATCH_UPDATE"
"""The environment variable that `--update` sets; where it is set to anything, files are rewritten."""


def assert_mapping(
    source: Model, target: Model, expected: str | os.PathLike[str], *, update: bool | None = None, **options: Any
) -> Mapping:
    """Match two models, and assert that the mapping is what a file says.

    Where the file says that the mapping was proved, it must still be, and for the same functions: a GELU that has
    become a ReLU fails, on one side or on both.

    Args:
        source: Where weights come from, in any form that `automatch.match` takes.
        target: What they are for.
        expected: The path of an expectation file, or of a mapping file.
        update: Whether to rewrite the file instead of failing; None asks `--update` or the environment.
        options: What else `automatch.match` takes: `source_inputs`, `target_inputs`, `layers` and so on.

    Returns:
        The mapping, for further assertions.

    Raises:
        AssertionError: The mapping is not as expected, or there is no such file; the message says what is not proved
            any more and how the functions changed, and lists every key that differs, with reasons.
        AutomatchError: The models cannot be matched, or the file is damaged.

    Example:
        >>> import tempfile, torch
        >>> old = {"layers.0.w": torch.zeros(2, 3), "head": torch.zeros(3, 4)}
        >>> new = {"blocks.0.w": torch.zeros(2, 3), "head": torch.zeros(3, 4)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "known.json"
        ...     _ = path.write_text('{"format": "automatch.expected", "version": 1, "weights": {"blocks.0.w": '
        ...                         '"layers.0.w", "head": "head"}}')
        ...     assert_mapping(old, new, path)["head"].sources
        ('head',)
    """
    __tracebackhide__ = True
    import automatch

    mapping = automatch.match(source, target, **options)
    assert_as_expected(mapping, expected, update=update)
    return mapping


def assert_fits(
    mapping: MappingLike,
    source: abc.Mapping[str, Tensor] | str | os.PathLike[str],
    *,
    allow_unread: abc.Sequence[str] = (),
) -> None:
    """Assert that a mapping can be applied to what somebody holds, and leaves nothing of it out.

    It is the check of `Mapping.apply`, `automatch.convert` and `automatch.load_into`: missing keys, shapes, kinds of
    numbers, scales, ties, and tensors that nothing reads. No weight is made.

    Args:
        mapping: The mapping, or the path of its file.
        source: A state dict, or the path of a checkpoint.
        allow_unread: Patterns (`"ema.*"`) of tensors that may be left out though the mapping never knew them.

    Raises:
        AssertionError: It does not fit; the message lists all findings.
        MappingFormatError: The mapping file is damaged.
        CheckpointError: The checkpoint is.

    Example:
        >>> import automatch, torch
        >>> old, new = {"a.w": torch.zeros(2, 3)}, {"b.w": torch.zeros(2, 3)}
        >>> mapping = automatch.match(old, new)
        >>> assert_fits(mapping, old)
        >>> try:
        ...     assert_fits(mapping, {**old, "a.bias": torch.zeros(2)})
        ... except AssertionError as error:
        ...     print(str(error).splitlines()[1])
          a.bias: nothing reads it, and the mapping was made without it
    """
    __tracebackhide__ = True
    from automatch.apply.fill import fitted
    from automatch.checkpoint.open import open_checkpoint
    from automatch.conversion.plan import make_plan
    from automatch.core.mapping_file import as_record
    from automatch.errors import MappingError, MappingFormatError

    record = as_record(mapping)
    try:
        if isinstance(source, abc.Mapping):
            fitted(record, source, allow_unread)
        else:
            make_plan(record, open_checkpoint(source), allow_unread=allow_unread)
    except MappingFormatError:
        raise
    except MappingError as error:
        raise AssertionError(str(error)) from None


def assert_as_expected(mapping: Mapping, expected: str | os.PathLike[str], *, update: bool | None = None) -> None:
    """Assert that a mapping, however it was found, is what a file says, and proved if the file says that it was.

    Args:
        mapping: The mapping.
        expected: The path of an expectation file, or of a mapping file.
        update: Whether to rewrite the file instead of failing; None asks `--update` or the environment.

    Raises:
        AssertionError: The mapping is not as expected, or there is no such file; see `assert_mapping`. Or the file is a
            mapping file, which knows its source whole, and the source does not fit it: it has weights that nothing
            reads and that were not there.
        MappingFormatError: The file is damaged.
        MappingError: The file is to be rewritten, but is a mapping file or cannot be written.
    """
    __tracebackhide__ = True
    from automatch.check import written
    from automatch.check.known_source import strangers

    path = Path(expected)
    update = bool(os.environ.get(UPDATE)) if update is None else update
    if update:
        before = str(mapping.check(path)) if path.exists() else "there was no such file"
        if written.update(mapping.record, path):
            print(f"{path} was written; look at what changed.\n{before}")  # noqa: T201  # pytest shows it with -rP
        return
    if not path.exists():
        raise AssertionError(f"{path}: there is no such file.\nNext: {_HOW}, then read what it says.")
    report = mapping.check(path)
    if not report.ok:
        raise AssertionError(f"{path}: {report}\nNext: mend what changed; or, if the new mapping is right, {_HOW}.")
    strange = strangers(mapping.record, path)
    if strange:
        raise AssertionError(f"{path}: {strange}\nNext: map what is new, or save the new mapping there.")


_HOW = f"let this test write it (pytest -p automatch.testing --update, or {UPDATE}=1)"


def pytest_addoption(parser: Any) -> None:
    """Add `--update`; called by pytest where this module is a plugin."""
    group = parser.getgroup("automatch")
    group.addoption("--update", action="store_true", help="rewrite expected mappings that are no longer met")


def pytest_configure(config: Any) -> None:
    """Pass `--update` on; called by pytest where this module is a plugin."""
    if config.getoption("--update"):
        os.environ[UPDATE] = "1"


def pytest_unconfigure(config: Any) -> None:
    """Forget `--update`; called by pytest where this module is a plugin."""
    if config.getoption("--update"):
        os.environ.pop(UPDATE, None)
