"""Whose an exception is: what is told from what, whatever wraps it and however a handler is written."""

from __future__ import annotations

import functools
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from automatch.interruption import let_through, of_caller
from tests.interruption.alarms import Stop, installed


def handler(_number: int, _frame: FrameType | None) -> None:
    raise Stop("now")


class Handlers:
    def method(self, _number: int, _frame: FrameType | None) -> None:
        raise Stop("now")

    def __call__(self, _number: int, _frame: FrameType | None) -> None:
        raise Stop("now")


def told(text: str, _number: int, _frame: FrameType | None) -> None:
    raise Stop(text)


def anything(*_given: object) -> None:
    deeper()


def deeper() -> None:
    raise Stop("now")


def once(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_IGN)
    raise Stop("now")


def forgetful(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise Stop("now")


def logged(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def around(*given: Any) -> Any:
        return function(*given)

    return around


HANDLERS: dict[str, Any] = {
    "function": handler,
    "method": Handlers().method,
    "object": Handlers(),
    "partial": functools.partial(told, "now"),
    "lambda": lambda number, frame: deeper(),
    "any arguments": anything,
    "decorated": logged(handler),
    "one that uninstalls itself": once,
    "one that lets go of its arguments": forgetful,
    "one that lets go, decorated": logged(forgetful),
}


def interrupted() -> None:
    signal.raise_signal(signal.SIGUSR1)


def wrapped(error: type[Exception], cause: bool = True) -> None:
    try:
        interrupted()
    except BaseException as problem:
        raise error("it does not run") from (problem if cause else None)


def swallowed_and_failed() -> None:
    try:
        interrupted()
    except Exception:
        raise ValueError  # noqa: B904 - that is what the test is about


def of_generator() -> None:
    def numbers() -> Iterator[int]:
        interrupted()
        yield 1

    sum(numbers())


def guarded(action: Callable[[], object]) -> str:
    try:
        action()
    except Exception as error:
        let_through(error)
        return type(error).__name__
    return "nothing"


@pytest.mark.parametrize("made", HANDLERS.values(), ids=HANDLERS)
def test_what_a_handler_raises_is_let_through_however_it_is_written(made: Any) -> None:
    with installed(made), pytest.raises(Stop, match="now"):
        guarded(interrupted)


@pytest.mark.parametrize(
    "action",
    [
        lambda: wrapped(RuntimeError),
        lambda: wrapped(ValueError, cause=False),
        swallowed_and_failed,
        of_generator,
        lambda: guarded(interrupted),
    ],
    ids=["cause", "context", "swallowed", "generator", "twice"],
)
def test_it_is_found_behind_what_wraps_it_and_is_the_same_as_before(action: Callable[[], object]) -> None:
    raised: list[BaseException] = []

    def keeping(_number: int, _frame: FrameType | None) -> None:
        raised.append(Stop("now"))
        raise raised[0]

    with installed(keeping), pytest.raises(Stop) as caught:
        guarded(action)
    assert caught.value is raised[0]
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)


def test_ctrl_c_that_was_wrapped_comes_out_as_ctrl_c() -> None:
    with installed(signal.default_int_handler), pytest.raises(KeyboardInterrupt):
        guarded(lambda: wrapped(RuntimeError))


def fails() -> None:
    raise RuntimeError("a model's")


def exits() -> None:
    try:
        raise SystemExit(2)
    except SystemExit as error:
        raise ValueError("no such option") from error


@pytest.mark.parametrize("action", [fails, exits, lambda: next(iter(()))])
def test_what_is_a_models_own_is_not_let_through(action: Callable[[], object]) -> None:
    with installed(handler):
        assert guarded(action) in ("RuntimeError", "ValueError", "StopIteration")


@pytest.mark.parametrize("made", [handler, signal.default_int_handler], ids=["handler", "ctrl-c"])
def test_what_was_handled_before_is_over(made: Any) -> None:
    with installed(made):
        try:
            interrupted()
        except BaseException:
            assert guarded(fails) == "RuntimeError"
            assert guarded(lambda: guarded(fails)) == "nothing"
        try:
            wrapped(ValueError)
        except ValueError:
            assert guarded(fails) == "RuntimeError"


def test_what_a_function_of_the_callers_raises_is_let_through() -> None:
    with pytest.raises(RuntimeError, match="a model's"):
        guarded(of_caller(fails))
    assert guarded(fails) == "RuntimeError"
