"""Every handler that may catch an exception of the caller's begins with `let_through`, or raises all it caught."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "automatch"

WIDE = {"BaseException", "Exception", "RuntimeError", "OSError", "EnvironmentError", "IOError", "TimeoutError"}
"""What a time-out may be: everywhere these are the caller's before they are a file's or a model's."""

RUNNING = {"trace", "inputs", "prove", "exact", "repair", "region", "running.py", "matching.py"}
"""Where models run, for long: there any class that is not the package's own may be one that the caller derived from."""


def names(kind: ast.expr | None) -> set[str]:
    """The classes that a handler catches."""
    if kind is None:
        return {"BaseException"}
    return {ast.unparse(one).split(".")[-1] for one in (kind.elts if isinstance(kind, ast.Tuple) else [kind])}


def is_wide(caught: set[str], room: str) -> bool:
    return bool(caught & WIDE) or (room in RUNNING and any(hasattr(builtins, name) for name in caught))


def lets_through(handler: ast.ExceptHandler) -> bool:
    first, last = handler.body[0], handler.body[-1]
    return ast.unparse(first) == f"let_through({handler.name})" or (isinstance(last, ast.Raise) and last.exc is None)


def faults(source: str, room: str) -> Iterator[int]:
    """Lines of handlers, and of `suppress`, that would keep an exception of the caller's."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and is_wide(names(node.type), room) and not lets_through(node):
            yield node.lineno
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "suppress":
            caught = set().union(*map(names, node.args))
            yield from [node.lineno] if caught & WIDE else []


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_handler_takes_the_callers_exceptions_for_a_failure(path: Path) -> None:
    room = path.relative_to(PACKAGE).parts[0]
    assert [f"{path}:{line}" for line in faults(path.read_text(), room)] == []


@pytest.mark.parametrize(
    ("handler", "room", "wrong"),
    [
        ("except Exception:\n    pass", "core", True),
        ("except:\n    pass", "core", True),
        ("except (KeyError, OSError) as error:\n    print(error)", "core", True),
        ("except Exception as error:\n    print(error)\n    let_through(error)", "core", True),
        ("except Exception as error:\n    let_through(error)\n    print(error)", "core", False),
        ("except BaseException:\n    print()\n    raise", "core", False),
        ("except ValueError:\n    pass", "core", False),
        ("except ValueError:\n    pass", "prove", True),
        ("except AutomatchError:\n    pass", "prove", False),
    ],
)
def test_the_rule_tells_handlers_apart(handler: str, room: str, wrong: bool) -> None:
    assert bool(list(faults(f"try:\n    pass\n{handler}", room))) is wrong


def test_the_rule_knows_suppress() -> None:
    assert list(faults("suppress(KeyError, OSError)", "core")) == [1]
    assert list(faults("suppress(FileNotFoundError)", "core")) == []
