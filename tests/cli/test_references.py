from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from automatch.cli.references import Factory, build, named, parse, told
from automatch.errors import ModelError

MODELS = """
import torch
from torch import nn

def small():
    return nn.Linear(3, 2)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(3, 2)

instance = nn.Linear(5, 5)
weights = {"a": torch.zeros(2)}
width = 7

def needs(width, depth=2):
    return nn.Linear(width, depth)

def raises():
    x = 1
    raise ValueError("width 7 is odd")

def wrong():
    return [1, 2]

def on_cpu_only():
    return nn.Linear(int(torch.ones(()).item()), 2)
"""


@pytest.fixture
def models(tmp_path: Path) -> Path:
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return path


def factory(reference: str) -> Factory:
    found = parse(reference)
    assert isinstance(found, Factory)
    return found


@pytest.mark.parametrize(("name", "kind"), [("small", nn.Linear), ("Net", nn.Module), ("instance", nn.Linear)])
def test_a_function_a_class_and_an_instance_give_a_model(models: Path, name: str, kind: type[nn.Module]) -> None:
    assert isinstance(build(factory(f"{models}:{name}")), kind)


def test_factories_build_on_the_meta_device_unless_told_otherwise(models: Path) -> None:
    named_small = factory(f"{models}:small")
    assert build(named_small).weight.device.type == "meta"
    assert build(named_small, "cpu").weight.device.type == "cpu"


def test_a_state_dict_is_taken_as_it_is(models: Path) -> None:
    assert list(build(factory(f"{models}:weights"))) == ["a"]


def test_a_module_on_the_path_is_named_with_dots() -> None:
    assert isinstance(build(factory("torch.nn:Identity")), nn.Identity)


def test_modules_of_the_current_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "nets_of_the_folder.py").write_text(MODELS)
    assert isinstance(build(factory("nets_of_the_folder:small")), nn.Linear)


def test_a_file_finds_the_files_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "layers_beside.py").write_text(MODELS)
    (tmp_path / "main.py").write_text("from layers_beside import small as big")
    assert isinstance(build(factory(f"{tmp_path / 'main.py'}:big")), nn.Linear)


def test_a_file_named_twice_runs_once(models: Path) -> None:
    assert factory(f"{models}:small").module is factory(f"{models}:Net").module


def test_an_existing_file_or_folder_is_a_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert parse(str(tmp_path / "model.safetensors")) == tmp_path / "model.safetensors"
    assert parse(str(tmp_path)) == tmp_path


def test_a_checkpoint_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    (tmp_path / "run:3").touch()
    assert parse(str(tmp_path / "run:3")) == tmp_path / "run:3"


def test_code_without_a_factory_is_refused_and_not_run(tmp_path: Path) -> None:
    (tmp_path / "models.py").write_text("raise SystemExit('ran')")
    with pytest.raises(ModelError, match=r"models\.py is code: say which factory .*models\.py:NAME"):
        parse(str(tmp_path / "models.py"))


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("{tmp}/modles.py:small", r"there is no file '.*modles\.py'; did you mean models\.py\?"),
        ("{tmp}/model.safetensors", r"there is no file or folder '.*model\.safetensors'"),
        ("no_such_package.nets:small", "there is no module 'no_such_package.nets'"),
        ("torch.nn_such:Linear", "there is no module 'torch.nn_such'"),
        ("torch.nn:Idenity", "torch.nn has no 'Idenity'; did you mean Identity"),
        ("{tmp}/models.py:smal", r"models\.py has no 'smal'; did you mean small\?"),
        ("{tmp}/models.py:", "names no model: a model is named as"),
        ("{tmp}/models.py:a b", "names no model"),
        (":small", "names no model"),
        ("", "names no"),
        ("..nets:small", "names no model"),
    ],
)
def test_what_is_not_there_is_named(models: Path, tmp_path: Path, reference: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse(reference.format(tmp=tmp_path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("needs", r"models\.py:needs needs arguments \(width\)"),
        ("raises", r"models\.py:raises failed: ValueError: width 7 is odd \(models\.py:22\).*--device cpu"),
        ("wrong", r"models\.py:wrong returned a list; expected an nn\.Module"),
        ("width", r"models\.py:width is a int; expected an nn\.Module"),
        ("on_cpu_only", r"on_cpu_only failed: .*\(models\.py:28\).*try --device cpu"),
    ],
)
def test_a_factory_that_does_not_work_says_why_and_where(models: Path, name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        build(factory(f"{models}:{name}"))


def test_a_factory_that_needs_values_works_on_the_cpu(models: Path) -> None:
    assert build(factory(f"{models}:on_cpu_only"), "cpu").in_features == 1


def test_the_advice_to_use_the_cpu_is_not_given_there(models: Path) -> None:
    with pytest.raises(ModelError) as caught:
        build(factory(f"{models}:raises"), "cpu")
    assert "--device" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def broken(:", r"SyntaxError: .*line 1"),
        (
            "import no_such_module_at_all",
            r"ModuleNotFoundError: No module named 'no_such_module_at_all' \(broken\.py:1\)",
        ),
        ("\n1 / 0", r"ZeroDivisionError: division by zero \(broken\.py:2\)"),
        ("raise SystemExit(3)", r"SystemExit: 3"),
    ],
)
def test_a_file_that_cannot_be_imported_says_why(tmp_path: Path, code: str, message: str) -> None:
    (tmp_path / "broken.py").write_text(code)
    with pytest.raises(ModelError, match=message):
        parse(f"{tmp_path / 'broken.py'}:make")


def test_a_package_that_fails_inside_is_not_said_to_be_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "broken_inside.py").write_text("import no_such_module_at_all")
    with pytest.raises(ModelError, match="broken_inside could not be imported: ModuleNotFoundError"):
        named("broken_inside", "make")


def test_an_exception_without_a_message_is_told_too() -> None:
    assert told(torch.cuda.OutOfMemoryError()) == "OutOfMemoryError: no message"
