from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from automatch.errors import InputsError
from automatch.trace import draft, ladder, recorder, trace
from automatch.trace.isolate import stand_in
from tests.trace import nets


def snapshot(model: nn.Module) -> dict[str, Any]:
    """All that a caller could notice: attributes by identity, tensors by value, tables by content."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            key = f"{path}:{name}"
            found[key] = list(value.items()) if isinstance(value, dict) else value
            if isinstance(value, Tensor):
                found[f"{key} values"] = value.tolist()
    for name, tensor in model.state_dict(keep_vars=True).items():
        found[name] = (
            id(tensor),
            tensor.data_ptr(),
            tensor._version,
            tensor.requires_grad,
            tensor.grad,
            tensor.tolist(),
        )
    return found


@pytest.mark.parametrize("uncopyable", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_the_model_and_the_inputs_are_as_they_were_after_an_export(uncopyable: bool, training: bool) -> None:
    model = nets.Restless(uncopyable=uncopyable).train(training)
    model.proj.eval()
    model.register_forward_hook(lambda *_args: None)
    x = torch.ones(2, 4)
    before = snapshot(model)
    assert trace(model, x).rung == "export"
    assert snapshot(model) == before
    assert x.tolist() == torch.ones(2, 4).tolist()


@pytest.mark.parametrize("record", [draft.record, recorder.record])
def test_the_other_rungs_leave_no_mark_either(record: ladder.Record, monkeypatch: pytest.MonkeyPatch) -> None:
    model = nets.Restless(branch=True).train()
    x = torch.ones(2, 4)
    before = snapshot(model)
    monkeypatch.setattr(ladder, "_LADDER", (ladder._Attempt("recorder", "this one", record),))
    assert trace(model, x).rung == "recorder"
    assert snapshot(model) == before
    assert x.tolist() == torch.ones(2, 4).tolist()


def test_a_refused_run_leaves_no_mark() -> None:
    model, x = nets.Restless(branch=True), torch.ones(2, 3)
    before = snapshot(model)
    with pytest.raises(InputsError):
        trace(model, x)
    assert snapshot(model) == before
    assert x.tolist() == torch.ones(2, 3).tolist()


@pytest.mark.parametrize("branch", [False, True])
def test_no_random_number_of_the_caller_is_consumed(branch: bool) -> None:
    model = nets.Restless(branch=branch)
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    expected = (torch.rand(1).item(), random.random(), np.random.rand())  # noqa: NPY002
    torch.manual_seed(1)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    trace(model, torch.ones(2, 4))
    assert (torch.rand(1).item(), random.random(), np.random.rand()) == expected  # noqa: NPY002


def test_the_stand_in_shares_storage_and_copies_the_rest() -> None:
    model = nets.Restless().train()
    with stand_in(model) as copied:
        assert copied is not model
        assert not copied.training
        assert isinstance(copied, nets.Restless)
        assert copied.proj.weight is model.proj.weight
        assert copied.calls is model.calls
        assert copied.plain.data_ptr() != model.plain.data_ptr()
        assert not torch.is_grad_enabled()
    assert torch.is_grad_enabled()


def test_tensors_that_autograd_made_do_not_hinder_the_copy() -> None:
    model = nets.ConvNet()
    model.extra = model.head.weight * 2
    with stand_in(model) as copied:
        assert copied is not model
    assert model.extra.grad_fn is not None


def test_switches_are_put_back_after_a_failure() -> None:
    with pytest.raises(InputsError):
        trace(nets.ConvNet(), torch.ones(1))
    assert torch.backends.mha.get_fastpath_enabled()
    assert torch.is_grad_enabled()


def test_progress_from_another_thread_is_still_written_while_torch_is_silenced(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import sys
    import threading

    with stand_in(nets.ConvNet()):
        sys.stderr.write("from torch\n")
        other = threading.Thread(target=lambda: sys.stderr.write("from the progress bar\n"))
        other.start()
        other.join()
    assert capsys.readouterr().err == "from the progress bar\n"
