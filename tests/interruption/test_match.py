"""An interruption at any moment of a match ends it, comes out as it was raised, and leaves no mark."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import automatch
from automatch.cli import main
from tests.interruption.alarms import (
    KINDS,
    Alarm,
    Plain,
    Runs,
    Stop,
    Turned,
    X,
    entering,
    in_run,
    installed,
    state,
    uncopied,
)
from tests.test_running import IDS
from tests.test_running import Turned as Rotary

PAIRS: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "proved at once": (Plain, Turned),
    "searched": (Plain, lambda: Turned(1.5)),
    "not to be copied": (uncopied, lambda: Turned(1.5)),
}


@pytest.fixture(autouse=True, scope="module")
def _warm() -> None:
    """What is imported on first use changes the process once."""
    automatch.match(Plain(), Turned(1.5), source_inputs=X, target_inputs=X)


def interrupted(
    pair: tuple[nn.Module, nn.Module], kind: type[BaseException], moment: Callable[[Alarm], Any], **options: Any
) -> bool:
    """Whether a match was interrupted at a moment; if so, all that there is to say of it is asserted."""
    alarm, before = Alarm(kind), state(*pair)
    options = {"source_inputs": X, "target_inputs": X, **options}
    caught: BaseException | None = None
    with installed(alarm.handler), moment(alarm):
        try:
            automatch.match(*pair, **options)
        except BaseException as error:
            caught = error
    if alarm.raised:
        assert caught is alarm.raised[0]
    else:
        assert caught is None
    assert state(*pair) == before
    return bool(alarm.raised)


def at_run(number: int) -> Callable[[Alarm], Any]:
    return lambda _alarm: in_run(number)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("searched", [True, False], ids=["", "mended"])
def test_a_match_ends_in_whichever_run_it_is_interrupted(
    pair: str, searched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not searched:
        monkeypatch.setattr("automatch.exact.readings.LARGEST", 1)  # as if the models were too large to be searched
    models = PAIRS[pair][0](), PAIRS[pair][1]()
    number = 1
    while interrupted(models, KINDS[number % len(KINDS)], at_run(number)):
        assert Runs.count == number, "a model was run after the interruption"
        number += 1
    assert number > 1


@pytest.mark.parametrize("given", ["shapes", "one side's"])
def test_so_does_one_that_looks_for_inputs(given: str) -> None:
    blank = torch.empty(2, 4, device="meta")
    models, number = (Plain(), Turned()), 1
    options = {"source_inputs": blank if given == "shapes" else X, "target_inputs": blank}
    while interrupted(models, KINDS[number % len(KINDS)], at_run(number), **options):
        number += 1
    assert number > 10


STAGES = [
    *(("trace/from_fx.py", "convert"), ("trace/isolate.py", "_copied"), ("trace/isolate.py", "_quiet")),
    *(("trace/isolate.py", "duplicate"), ("trace/weights.py", "identity"), ("align/structure.py", "align_structure")),
    *(("inputs/content.py", "works"), ("prove/weights.py", "fresh"), ("prove/outputs.py", "paired")),
    *(("prove/runs.py", "run"), ("prove/influence.py", "measure"), ("apply/fill.py", "compute")),
    *(("trace/program.py", "outputs_of"), ("exact/form.py", "form"), ("exact/colours.py", "refined_at")),
    *(("exact/gradients.py", "gradients"), ("exact/answer.py", "answer")),
]

MENDING = [("prove/divergence.py", "compared"), ("prove/steps.py", "run"), ("repair/bench.py", "stands")]


@pytest.mark.parametrize(("file", "function"), [*STAGES, *MENDING], ids=str)
def test_so_does_one_that_is_interrupted_in_any_stage(
    file: str, function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (file, function) in MENDING:
        monkeypatch.setattr("automatch.exact.readings.LARGEST", 1)
    models = Plain(), Turned(1.5)
    for kind in KINDS:
        assert interrupted(models, kind, lambda alarm: entering(f"automatch/{file}", function, alarm.ring))


PLACES = [
    *(("torch/overrides.py", "_pop_mode"), ("torch/overrides.py", "_push_mode"), ("contextlib.py", "__exit__")),
    *(("torch/_ops.py", "unset_mode_pre_dispatch"), ("torch/autograd/grad_mode.py", "__exit__")),
    *(
        ("torch/utils/_python_dispatch.py", "_pop_mode"),
        ("contextlib.py", "_push_cm_exit"),
        ("warnings.py", "__exit__"),
    ),
    *(("torch/random.py", "fork_rng"), ("torch/random.py", "set_rng_state"), ("isolate.py", "put_back")),
]


@pytest.mark.parametrize(("file", "function"), PLACES, ids=str)
def test_one_that_comes_while_switches_are_put_back_leaves_no_mark_either(file: str, function: str) -> None:
    for source in (Plain, uncopied):
        interrupted((source(), Turned(1.5)), Stop, lambda alarm: entering(file, function, alarm.ring))


@pytest.mark.parametrize("stage", ["colouring", "repairing"])
def test_what_the_callers_function_for_progress_raises_is_the_callers(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if stage == "repairing":
        monkeypatch.setattr("automatch.exact.readings.LARGEST", 1)
    models = Rotary(True), Rotary(False)
    said: list[str] = []
    automatch.match(*models, source_inputs=IDS, target_inputs=IDS, progress=said.append)
    assert any(sentence.startswith(f"{stage}:") for sentence in said)
    for kind in KINDS:
        for number in range(len(said)):
            left, raised = [number], kind("no more")

            def told(_sentence: str, left: list[int] = left, raised: BaseException = raised) -> None:
                left[0] -= 1
                if left[0] < 0:
                    raise raised

            with pytest.raises(kind) as caught:
                automatch.match(*models, source_inputs=IDS, target_inputs=IDS, progress=told)
            assert caught.value is raised


def test_after_an_interruption_a_match_gives_what_it_would_have_given() -> None:
    models = Plain(), Turned(1.5)
    options: dict[str, Any] = {"source_inputs": X, "target_inputs": X}
    undisturbed = automatch.match(*models, **options)
    for number in (1, 3, 8):
        assert interrupted(models, Stop, at_run(number))
    assert automatch.match(*models, **options).record == undisturbed.record


@pytest.mark.parametrize("factor", [1.0, 1.5], ids=["agree", "differ"])
def test_a_proof_ends_in_whichever_run_it_is_interrupted(factor: float) -> None:
    models = Plain(), Turned(factor)
    mapping = automatch.match(Plain(), Turned(), source_inputs=X, target_inputs=X)
    number, ended = 0, False
    while not ended:
        number += 1
        alarm, before = Alarm(KINDS[number % len(KINDS)]), state(*models)
        caught: list[BaseException] = []
        with installed(alarm.handler), in_run(number):
            try:
                mapping.prove(*models, source_inputs=X, target_inputs=X)
                ended = True
            except BaseException as error:
                caught.append(error)
        assert caught == alarm.raised
        assert ended is not bool(caught)
        assert state(*models) == before
    assert number > 4


CODE = """
import signal
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 3)
    def forward(self, x):
        signal.raise_signal(signal.SIGUSR1)
        return self.a(x)

def old(): return Net()
def new(): return Net()
def old_inputs(): return torch.ones(2, 4)
def new_inputs(): return torch.ones(2, 4)
def slow():
    signal.raise_signal(signal.SIGUSR1)
    return Net()
"""


@pytest.fixture
def code(tmp_path: Path) -> str:
    (tmp_path / "models.py").write_text(CODE)
    (tmp_path / "slow.py").write_text(f"{CODE}\nsignal.raise_signal(signal.SIGUSR1)\n")
    return str(tmp_path / "models.py")


@pytest.mark.parametrize("source", ["models.py:old", "models.py:slow", "slow.py:old"], ids=["run", "build", "import"])
def test_ctrl_c_ends_a_command_with_130_and_no_traceback(
    code: str, source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "mapping.json"
    inputs = ("--source-inputs", f"{code}:old_inputs")
    for _ in range(2):  # what did not come to its end is not taken for done
        with installed(signal.default_int_handler):
            assert main(["match", str(tmp_path / source), f"{code}:new", "-o", str(out), *inputs]) == 130
        said = capsys.readouterr().err
        assert said.endswith("interrupted\n")
        assert "Traceback" not in said
        assert not out.exists()


@pytest.mark.parametrize("kind", [*KINDS[:3], SystemExit])
@pytest.mark.parametrize("source", ["models.py:old", "models.py:slow", "slow.py:old"], ids=["run", "build", "import"])
def test_what_a_signal_handler_raises_passes_through_a_command(
    code: str, source: str, kind: type[BaseException], tmp_path: Path
) -> None:
    alarm = Alarm(kind)
    inputs = ("--source-inputs", f"{code}:old_inputs")
    with installed(alarm.handler), pytest.raises(kind) as caught:
        main(["match", str(tmp_path / source), f"{code}:new", "-o", str(tmp_path / "mapping.json"), *inputs])
    assert caught.value is alarm.raised[0]
