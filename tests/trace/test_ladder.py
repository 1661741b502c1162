from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from automatch.errors import CheckpointError, InputsError, ModelError, TraceError
from automatch.trace import draft, export, ladder, recorder, trace
from automatch.trace.recording import Recording
from tests.trace import nets


def test_control_flow_on_data_is_rescued_by_a_later_rung_that_says_why() -> None:
    graph = trace(nets.Branch(), torch.ones(2, 4))
    assert graph.rung == "draft_export"
    note, path = graph.notes
    assert note.startswith("torch.export failed: GuardOnDataDependentSymNode: ")
    assert "nets.py:" in note
    assert "if x.sum() > 0" in note
    assert path.startswith("recorded along the branches that these inputs take")
    assert {node.target for node in graph.nodes if node.op == "weight"} == {"yes.weight", "yes.bias"}


def test_the_recorder_catches_what_both_exports_refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object) -> Recording:
        raise RuntimeError("no\nsecond line")

    *exports, last = ladder._LADDER
    refusing = [ladder._Attempt(attempt.rung, attempt.said, refuse, attempt.on) for attempt in exports]
    monkeypatch.setattr(ladder, "_LADDER", (*refusing, last))
    graph = trace(nets.Branch(), -torch.ones(2, 4))
    assert graph.rung == "recorder"
    assert graph.notes[0].startswith("torch.export failed: RuntimeError: no (at test_ladder.py:")
    assert len(graph.notes) == 3
    (linear,) = (node for node in graph.nodes if node.op == "linear")
    assert linear.module == "no"
    assert linear.line.startswith("nets.py:")
    assert [node.target for node in graph.nodes if node.op == "input"] == ["x"]


@pytest.mark.parametrize("record", [export.record, draft.record, recorder.record])
@pytest.mark.parametrize(
    ("model", "inputs"),
    [
        (nets.ConvNet(), torch.ones(2, 3, 6, 6)),
        (nets.Regions(), torch.ones(2, 4)),
        (nets.WithCache(), torch.ones(2, 4)),
        (nets.Tied(), torch.tensor([[1, 2]])),
        (nets.InPlace(), torch.ones(2, 4)),
        (nets.Shared(), torch.ones(2, 4)),
        (nets.KeywordsOnly(), {"left": torch.ones(2, 4), "right": torch.ones(2, 4)}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_rung_records_the_same_operators(
    record: ladder.Record, model: nn.Module, inputs: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = trace(model, inputs)
    monkeypatch.setattr(ladder, "_LADDER", (ladder._Attempt("recorder", "this one", record),))
    graph = trace(model, inputs)
    said = [(node.op, node.shape, node.target, node.module, node.line) for node in graph.nodes if node.op != "constant"]
    assert said == [
        (node.op, node.shape, node.target, node.module, node.line) for node in reference.nodes if node.op != "constant"
    ]
    assert len(graph.outputs) == len(reference.outputs)
    assert graph.weights == reference.weights


def test_a_meta_model_that_makes_cpu_tensors_is_exported_on_an_imagined_cpu() -> None:
    model = nets.NoDevice().to("meta")
    graph = trace(model, torch.ones(2, 4))
    assert graph.rung == "export"
    assert len(graph.notes) == 1
    assert [node.op for node in graph.nodes][-3:] == ["arange", "add", "linear"]
    assert all(parameter.is_meta for parameter in model.parameters())


def test_a_model_that_nothing_can_trace_names_the_line_for_every_rung_and_the_next_step() -> None:
    with pytest.raises(TraceError) as caught:
        trace(nets.SizeFromData().to("meta"), torch.ones(2, 4), label="target")
    lines = str(caught.value).splitlines()
    assert lines[0] == "the target model SizeFromData could not be traced:"
    assert [line.split(" failed: ")[0] for line in lines[1:-1]] == [
        "  torch.export",
        "  torch.export, meta tensors as CPU",
        "  make_fx on a run",
    ]
    assert all("nets.py:" in line and "int(x.sum().item())" in line for line in lines[1:-1])
    assert "model.state_dict()" in lines[-1]
    assert "allow_untraced" in lines[-1]


def test_the_same_model_with_numbers_is_traced() -> None:
    graph = trace(nets.SizeFromData(), torch.ones(2, 4))
    assert graph.nodes[graph.outputs[0]].shape == (8, 4)


def test_allow_untraced_gives_names_and_shapes_with_the_reasons() -> None:
    model = nets.SizeFromData().to("meta")
    graph = trace(model, torch.ones(2, 4), allow_untraced=True)
    assert graph.rung == "names"
    assert graph.nodes == ()
    assert [weight.name for weight in graph.weights] == ["proj.weight", "proj.bias"]
    assert len(graph.notes) == 3
    assert trace(model, allow_untraced=True).notes == ("not traced: no example inputs",)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_inputs_that_the_forward_refuses_are_told_from_untraceable_code(device: str) -> None:
    with pytest.raises(InputsError) as caught:
        trace(nets.ConvNet().to(device), ((torch.ones(2, 4, 6, 6),), {}))
    message = str(caught.value)
    assert "the source model ConvNet does not run on the given inputs: RuntimeError" in message
    assert "expected input[2, 4, 6, 6] to have 3 channels, but got 4" in message
    assert "its forward: forward(x)" in message
    assert "it was given: float32[2, 4, 6, 6]" in message
    assert "Next: pass source_inputs" in message


def test_too_many_arguments_are_inputs_that_do_not_fit() -> None:
    with pytest.raises(InputsError, match=r"takes 2 positional arguments but 3 were given"):
        trace(nets.ConvNet(), (torch.ones(1, 3, 6, 6), torch.ones(1)), label="target")


def test_a_model_without_inputs_says_which_side_needs_them_and_how() -> None:
    with pytest.raises(InputsError) as caught:
        trace(nets.KeywordsOnly(), label="target")
    assert "the target model KeywordsOnly needs example inputs" in str(caught.value)
    assert "forward(*, left, right, twice=True)" in str(caught.value)
    assert "target_inputs=(args, kwargs)" in str(caught.value)


def test_inputs_that_the_model_carries_are_used_and_blamed_by_name() -> None:
    class Lightning(nets.ConvNet):
        example_input_array = torch.ones(1, 3, 6, 6)

    class Wrong(nets.KeywordsOnly):
        @property
        def dummy_inputs(self) -> dict[str, Tensor]:
            return {"left": torch.ones(2, 4), "middle": torch.ones(2, 4)}

    assert trace(Lightning()).rung == "export"
    with pytest.raises(InputsError, match="does not run on the model's own dummy_inputs"):
        trace(Wrong())


def test_meta_inputs_for_a_model_with_numbers_are_refused() -> None:
    with pytest.raises(InputsError, match="the model is on cpu, but the given inputs are on the meta device"):
        trace(nets.ConvNet(), torch.ones(1, 3, 6, 6, device="meta"))


def test_an_exported_program_is_read_without_exporting_again(monkeypatch: pytest.MonkeyPatch) -> None:
    model = nets.Regions().eval()
    program = torch.export.export(model, (torch.ones(2, 4),), strict=False)
    monkeypatch.setattr(torch.export, "export", lambda *_args, **_kwargs: pytest.fail("exported again"))
    graph = trace(program)
    assert graph.rung == "export"
    assert [(weight.name, weight.kind) for weight in graph.weights] == [
        ("proj.weight", "parameter"),
        ("proj.bias", "parameter"),
    ]
    assert [node.op for node in graph.nodes][-5:] == ["linear", "mul", "mean", "sub", "einsum"]
    assert [node.target for node in graph.nodes if node.op == "input"] == ["x"]
    assert graph.nodes[graph.outputs[0]].op == "einsum"


def test_an_exported_program_keeps_ties() -> None:
    program = torch.export.export(nets.Tied().eval(), (torch.tensor([[1, 2]]),), strict=False)
    graph = trace(program)
    assert ("embed.weight", ("out.weight",)) in [(weight.name, weight.aliases) for weight in graph.weights]
    assert [node.target for node in graph.nodes if node.op == "weight"] == ["embed.weight"]


def test_state_dicts_and_bare_shapes_give_weights_without_nodes() -> None:
    model = nets.Tied()
    graph = trace(model.state_dict(), label="target")
    assert graph.rung == "names"
    assert graph.name == "target"
    assert graph.nodes == ()
    first = graph.weights[0]
    assert (first.name, first.aliases, first.kind) == (
        "embed.weight",
        ("out.weight",),
        "tensor",
    )
    with torch.device("meta"):
        meta = trace(nets.Tied().state_dict())
    assert [weight.shape for weight in meta.weights] == [(7, 4), (2, 2), (2,)]
    assert [weight.shape for weight in trace({"a": (2, 3), "b": ()}).weights] == [(2, 3), ()]


def test_state_dict_entries_that_are_not_tensors_are_noted() -> None:
    graph = trace({"w": torch.ones(2), "_extra_state": {"scale": 1}})
    assert [weight.name for weight in graph.weights] == ["w"]
    assert graph.notes == ("state-dict entry '_extra_state' is not a tensor and was left out",)


def test_mappings_that_are_no_state_dict_are_refused() -> None:
    with pytest.raises(CheckpointError, match="this one to dict"):
        trace({"state_dict": {"w": torch.ones(2)}})
    with pytest.raises(CheckpointError, match="keys are names"):
        trace({3: torch.ones(2)})  # type: ignore[dict-item]


def test_a_path_is_read_as_a_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save(nets.ConvNet().state_dict(), path)
    graph = trace(path)
    assert graph.name == "model.pt"
    assert len(graph.weights) == 9
    assert trace(str(path)) == graph


def test_other_things_are_refused_by_type() -> None:
    with pytest.raises(ModelError, match="the source is a int"):
        trace(3)  # type: ignore[arg-type]


def test_lazy_modules_are_refused_with_the_next_step() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some versions of torch call lazy modules new
        model = nn.Sequential(nn.LazyLinear(3))
    with pytest.raises(ModelError, match=r"0\.weight"):
        trace(model, torch.ones(1, 2))


def test_progress_is_told_before_each_step() -> None:
    lines: list[str] = []
    trace(nets.Branch(), torch.ones(2, 4), label="target", progress=lines.append)
    assert lines == [
        "target: tracing Branch with torch.export",
        "target: tracing Branch with torch.export.draft_export",
    ]


def test_a_failing_export_prints_and_logs_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with caplog.at_level(logging.WARNING):
        trace(nets.Branch(), torch.ones(2, 4))
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert list(tmp_path.iterdir()) == []
