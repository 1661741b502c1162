"""One way of converting the benchmark's checkpoint, in a process of its own; `tests.benchmarks.converting` starts it.

python -m tests.benchmarks.contestants by_hand SOURCE OUT
python -m tests.benchmarks.contestants transformers SOURCE_FOLDER OUT_FOLDER
python -m tests.benchmarks.contestants nothing
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path


def write(folder: str) -> None:
    """Write the checkpoint; in a process of its own, because a child's peak memory counts its parent's."""
    import torch
    from safetensors.torch import load_file

    from tests.benchmarks.experts import write_source

    write_source(Path(folder))
    torch.save(load_file(Path(folder) / "model.safetensors"), Path(folder) / "model.pt")


def by_hand(source: str, out: str) -> None:
    """What people write: load everything, stack and concatenate, save."""
    import torch
    from safetensors.torch import load_file, save_file

    from tests.benchmarks.experts import EXPERTS, LAYERS

    old = load_file(Path(source) / "model.safetensors")
    new = {}
    for layer in range(LAYERS):
        before = f"model.layers.{layer}.block_sparse_moe"
        after = f"model.layers.{layer}.mlp"
        new[f"{after}.gate.weight"] = old.pop(f"{before}.gate.weight")
        ups, downs = [], []
        for expert in range(EXPERTS):
            gate, up, down = (old.pop(f"{before}.experts.{expert}.w{part}.weight") for part in (1, 3, 2))
            ups.append(torch.cat([gate, up]))
            downs.append(down)
        new[f"{after}.experts.gate_up_proj"] = torch.stack(ups)
        new[f"{after}.experts.down_proj"] = torch.stack(downs)
    save_file(new | old, out, metadata={"format": "pt"})


def transformers(source: str, out: str) -> None:
    """The library's own conversion on load, and its save in the new form."""
    import torch
    from transformers import MixtralForCausalLM

    model = MixtralForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
    model.save_pretrained(out, save_original_format=False)


def nothing() -> None:
    """What torch and the library cost before any work is done: the interpreter's own memory."""
    import torch

    import automatch.conversion.making

    assert torch.__version__
    assert automatch.conversion.making


CONTESTANTS: dict[str, Callable[..., None]] = {
    "write": write,
    "by_hand": by_hand,
    "transformers": transformers,
    "nothing": nothing,
}

if __name__ == "__main__":
    CONTESTANTS[sys.argv[1]](*sys.argv[2:])
