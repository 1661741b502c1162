"""Exceptions of the caller's, told from those of a model: a time-out, Ctrl-C, an error in a function for progress.

A model's code, torch's exporter and a recorded program may fail in any way, so that what runs them catches nearly
everything. What the caller raises in the middle of it is no failure of theirs. The exception's type does not tell:
a time-out may be a `RuntimeError`. Where it comes from does.
"""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterator
from functools import partial, wraps
from itertools import pairwise
from types import CodeType, FrameType
from typing import Any, ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")

_NUMBERS = frozenset(signal.valid_signals())


def let_through(error: BaseException) -> None:
    """Raise the caller's exception that an exception is, or that is hidden in one; else return.

    Every handler that is there for the failures of a model, or of a file, begins with this.

    1. What comes out of a signal handler's frame, or out of a function that the caller gave, is the caller's.
    2. Libraries wrap what they catch, so the exceptions behind the one at hand are looked at as well. Ctrl-C behind
       it is the caller's too, though Python's own handler for it has no frame.
    3. What was being handled before the guarded block began is behind every exception raised in it; it is over.

    Args:
        error: What a handler has just caught.

    Raises:
        BaseException: The caller's, the same object as it was.

    Example:
        >>> try:
        ...     raise ValueError("a model's")
        ... except ValueError as error:
        ...     let_through(error)
    """
    found = _of_the_caller(error)
    if found is None:
        return
    behind = found.__context__
    try:
        raise found
    finally:
        found.__context__ = behind  # what wrapped it is not what it came from


def of_caller(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """A function of the caller's such that whatever it raises is let through."""

    @wraps(function)
    def called(*given: _Given.args, **named: _Given.kwargs) -> _Result:
        return function(*given, **named)

    return called


_CALLED = of_caller(print).__code__  # that of every function made so


def _of_the_caller(error: BaseException) -> BaseException | None:
    known = {_CALLED, *_handlers()}
    if any(_is_of_caller(frame, known) for frame in _frames(error)):
        return error
    for behind in _behind(error):
        if isinstance(behind, KeyboardInterrupt) or any(_is_of_caller(frame, known) for frame in _frames(behind)):
            return behind
    return None


def _behind(error: BaseException) -> Iterator[BaseException]:
    """The exceptions that led to one, without what was caught, and so was over, before the block that raised it."""
    around = _around(error)
    seen = {id(error)}
    waiting = [error]
    while waiting:
        current = waiting.pop()
        for behind in (current.__context__, current.__cause__):
            if behind is not None and id(behind) not in seen and next(_frames(behind), None) not in around:
                seen.add(id(behind))
                waiting.append(behind)
                yield behind


def _frames(error: BaseException) -> Iterator[FrameType]:
    """From the frame that caught an exception to the one that raised it."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next


def _around(error: BaseException) -> set[FrameType]:
    """The frames that called the one that caught an exception: what these caught was caught before."""
    frame = next(_frames(error), None)
    around: set[FrameType] = set()
    while frame is not None and (frame := frame.f_back) is not None:
        around.add(frame)
    return around


def _is_of_caller(frame: FrameType, known: set[CodeType]) -> bool:
    return frame.f_code in known or _called_for_signal(frame)


def _called_for_signal(frame: FrameType) -> bool:
    """Whether a frame was called as Python calls a signal handler: with a number and the frame that it interrupts.

    A handler that has uninstalled itself is known by nothing else.
    """
    if frame.f_back is None:
        return False
    names, rest, _, values = inspect.getargvalues(frame)
    given = [values.get(name) for name in names]
    more = values.get(rest or "", ())
    given += more if isinstance(more, tuple) else ()
    return any(other is frame.f_back and type(one) is int and one in _NUMBERS for one, other in pairwise(given))


def _handlers() -> Iterator[CodeType]:
    """The code of the signal handlers that are installed; one may have let go of what it was called with."""
    for number in _NUMBERS:
        code = _code(signal.getsignal(number))
        if code is not None:
            yield code


def _code(handler: Any) -> CodeType | None:
    """The code of a function, a method, a partial one, or an object that can be called.

    Of a decorated one it is the inner function's: a model's functions may have the same decorator.
    """
    while isinstance(handler, partial):
        handler = handler.func
    if not callable(handler):
        return None
    if not hasattr(handler, "__code__") and not hasattr(handler, "__wrapped__"):
        handler = type(handler).__call__
    code = getattr(inspect.unwrap(handler), "__code__", None)
    return code if isinstance(code, CodeType) else None
