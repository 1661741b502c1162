"""Naming a model on the command line: `package.module:factory`, `file.py:factory`, or the path of a checkpoint.

Code runs only where a factory is named; a checkpoint is handed on as a path.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
import traceback
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.abc import Loader
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

from automatch.errors import AutomatchError, ModelError
from automatch.interruption import let_through

Device: TypeAlias = Literal["meta", "cpu"]

GRAMMAR = "a model is named as package.module:factory, file.py:factory, or the path of a checkpoint"


@dataclass(frozen=True, slots=True)
class Factory:
    """A named object in a module that was imported for it.

    Attributes:
        reference: What the user wrote before the colon (`"models.py"`, `"package.module"`).
        name: What the user wrote after it.
        module: The imported module.
    """

    reference: str
    name: str
    module: ModuleType


def parse(reference: str) -> Factory | Path:
    """What a reference names: a factory, its module imported, or the path of a checkpoint.

    Raises:
        ModelError: There is no such file or module, it could not be imported, or it has nothing of that name.
    """
    place, colon, name = reference.rpartition(":")
    if reference and Path(reference).exists():
        return _checkpoint(Path(reference))
    if not colon:
        raise ModelError(_no_such_model(reference))
    if not name.isidentifier() or not (place.endswith(".py") or _is_dotted(place)):
        raise ModelError(f"{reference!r} names no model: {GRAMMAR}")
    return named(place, name)


def named(place: str, name: str) -> Factory:
    """The factory of this name in a file or module.

    Raises:
        ModelError: There is no such file or module, it could not be imported, or it has nothing of that name.
    """
    module = _file_module(Path(place)) if place.endswith(".py") else _package_module(place)
    if not hasattr(module, name):
        raise ModelError(f"{place} has no {name!r}{_hint(name, vars(module))}")
    return Factory(place, name, module)


def build(factory: Factory, device: Device = "meta") -> Any:
    """The model or state dict that a factory makes, on this device; an instance is taken as it stands.

    Raises:
        ModelError: The factory needs arguments, raises, or makes something else.
    """
    made = getattr(factory.module, factory.name)
    if not _is_model(made):
        if not callable(made):
            raise ModelError(f"{label(factory)} is {_a(made)}; {_EXPECTED}")
        made = call(made, factory, device, ModelError)
    if not _is_model(made):
        raise ModelError(f"{label(factory)} returned {_a(made)}; {_EXPECTED}")
    return made


def call(function: Callable[..., Any], factory: Factory, device: Device, error: type[AutomatchError]) -> Any:
    """The result of calling a user's function without arguments on this device.

    Raises:
        AutomatchError: Of the kind given: the function needs arguments, or raised; says what and at which line.
    """
    missing = _required(function)
    if missing:
        raise error(
            f"{label(factory)} needs arguments ({', '.join(missing)}), but factories are called without; "
            "write a function without arguments that calls it"
        )
    try:
        with _on(device):
            return function()
    except Exception as problem:
        let_through(problem)
        advice = "" if device == "cpu" else "; it ran under torch.device('meta'): try --device cpu if it needs values"
        cause = told(problem, factory.module.__file__ or "")
        raise error(f"{label(factory)} failed: {cause}{advice}") from problem


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Let the user's code draw the same numbers in every run, so that the same command gives the same file."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def label(factory: Factory) -> str:
    """A factory as the user named it."""
    return f"{factory.reference}:{factory.name}"


def told(problem: BaseException, file: str = "") -> str:
    """An exception of the user's code in one line: its type, its message, and the line it comes from.

    Args:
        problem: The exception.
        file: The user's file; the innermost line in it is named, or the innermost of all where none is in it.
    """
    message = " ".join(str(problem).split()) or "no message"
    if isinstance(problem, SyntaxError):
        return f"{type(problem).__name__}: {message}"
    frames = traceback.extract_tb(problem.__traceback__)
    inside = [frame for frame in frames if frame.filename == file] or frames[-1:]
    where = f" ({Path(inside[-1].filename).name}:{inside[-1].lineno})" if inside else ""
    return f"{type(problem).__name__}: {message}{where}"


_EXPECTED = "expected an nn.Module, an ExportedProgram, or a dict of names to tensors"


def _checkpoint(path: Path) -> Path:
    if path.suffix == ".py":
        raise ModelError(f"{path} is code: say which factory in it makes the model, as {path}:NAME")
    return path


def _no_such_model(reference: str) -> str:
    if reference.endswith(".py") or "/" in reference:
        return f"there is no file or folder {reference!r}{_hint(Path(reference).name, _files_beside(Path(reference)))}"
    hint = _hint(reference, _files_beside(Path(reference)))
    return f"{reference!r} is no file or folder here{hint}, and names no factory; {GRAMMAR}"


def _file_module(path: Path) -> ModuleType:
    """The module in a file, run once however often it is named."""
    if not path.is_file():
        raise ModelError(f"there is no file {str(path)!r}{_hint(path.name, _files_beside(path))}")
    resolved = path.resolve()
    name = f"_automatch_file_{zlib.crc32(bytes(resolved)):08x}_{path.stem}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, resolved)
    if spec is None or spec.loader is None:
        raise ModelError(f"{path} cannot be imported as Python code")
    module = importlib.util.module_from_spec(spec)
    _prefer(resolved.parent)
    # dataclasses and torch.export look a class's module up by its name, so it has to be there while the code runs
    sys.modules[name] = module
    try:
        _executed(spec.loader, module)
    except (Exception, SystemExit) as problem:
        let_through(problem)
        raise ModelError(f"{path} could not be imported: {told(problem, str(resolved))}") from problem
    return module


def _executed(loader: Loader, module: ModuleType) -> None:
    """Run a module's code; what did not come to its end is forgotten."""
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[module.__name__]
        raise


def _package_module(name: str) -> ModuleType:
    _prefer(Path.cwd())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as problem:
        if problem.name is not None and f"{name}.".startswith(f"{problem.name}."):
            raise ModelError(f"there is no module {name!r} here or installed; {GRAMMAR}") from problem
        raise ModelError(f"{name} could not be imported: {told(problem)}") from problem
    except (Exception, SystemExit) as problem:
        let_through(problem)
        raise ModelError(f"{name} could not be imported: {told(problem)}") from problem


def _is_dotted(name: str) -> bool:
    return all(word.isidentifier() for word in name.split("."))


def _prefer(folder: Path) -> None:
    """Let code find what lies in this folder, as it would if it were run there."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _is_model(value: object) -> bool:
    import torch

    if isinstance(value, dict):
        return bool(value) and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())
    return isinstance(value, torch.nn.Module | torch.export.ExportedProgram)


def _required(function: Callable[..., Any]) -> list[str]:
    """Names of the arguments that a function cannot be called without; none where it does not tell."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


def _on(device: Device) -> AbstractContextManager[Any]:
    import torch

    return torch.device(device)


def _files_beside(path: Path) -> list[str]:
    return [other.name for other in path.parent.iterdir()] if path.parent.is_dir() else []


def _hint(name: str, known: Iterable[str]) -> str:
    """What the user may have meant, to be put behind a message; empty where nothing comes near."""
    near = difflib.get_close_matches(name, [other for other in known if not other.startswith("_")], n=3)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def _a(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
