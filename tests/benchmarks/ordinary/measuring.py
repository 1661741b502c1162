"""What the child does: match one pair as a user would, and say what it took and whether the answer is right.

`automatch` is imported from the tree that is measured, which may be of another commit: nothing here but its public
functions may be used.
"""

from __future__ import annotations

import gc
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

import automatch
from tests.benchmarks.memory import peak_memory
from tests.benchmarks.ordinary.pairs import Pair
from tests.benchmarks.ordinary.rows import Row

SEED = 0


def measured(row: Row) -> dict[str, Any]:
    """The fields of `results.Found`."""
    if row.aim.times_meta is not None:
        _warm_up()
    pair = _made(row)
    before = peak_memory()
    wall, processor, mapping = _timed(pair)
    peak = peak_memory()
    right, of = _right(mapping, pair)
    return {
        "automatch": str(automatch.__file__),
        "numbers": [sum(each.numel() for each in model.parameters()) for model in (pair.source, pair.target)],
        "before_mb": before,
        "peak_mb": peak,
        "wall_s": wall,
        "processor_s": processor,
        "statuses": Counter(entry.status for entry in mapping.entries),
        "verdict": mapping.verdict,
        "right": right,
        "of": of,
        "meta_s": None if row.aim.times_meta is None else _on_meta(row),
    }


def checked(row: Row) -> dict[str, Any]:
    """Whether the row's reference is right: by how much outputs differ, as a part of their scale."""
    pair = _made(row)
    if pair.reference is None:
        names = pair.source.state_dict().keys()
        strangers = [key for key in _floating(pair.target) if key not in names]
        return {"gap": None, "right": not strangers, "automatch": str(automatch.__file__)}
    _disturb(pair.source)
    state = pair.source.state_dict()
    pair.target.load_state_dict(pair.reference(state, pair.target.state_dict()), strict=True)
    arguments, options = pair.inputs
    wide = [[each.double() if each.is_floating_point() else each for each in arguments] for _ in range(2)]
    outputs = [
        _outputs(model.double(), *given, **options)
        for model, given in zip((pair.source, pair.target), wide, strict=True)
    ]
    gap = max(float((a - b).abs().max() / a.std()) for a, b in zip(*outputs, strict=True))
    return {"gap": gap, "right": gap < row.tolerance, "automatch": str(automatch.__file__)}


@torch.no_grad()
def _outputs(model: nn.Module, *arguments: Any, **options: Any) -> list[Tensor]:
    found = model(*arguments, **options)
    return [found] if isinstance(found, Tensor) else list(found.to_tuple())


def _made(row: Row) -> Pair:
    torch.manual_seed(SEED)
    return row.make()


def _on_meta(row: Row) -> float:
    with torch.device("meta"):
        pair = _made(row)
    return _timed(pair)[0]


def _timed(pair: Pair) -> tuple[float, float, automatch.Mapping]:
    """Seconds by the clock and of the processor, and the mapping."""
    gc.collect()  # what models left behind is not collected at the match's expense
    clock, processor = time.perf_counter(), time.process_time()
    mapping = automatch.match(pair.source, pair.target, source_inputs=pair.inputs, target_inputs=pair.inputs)
    return time.perf_counter() - clock, time.process_time() - processor, mapping


def _warm_up() -> None:
    """Have torch do what it does only once, where two matches in one process are compared."""
    given: Any = (torch.randn(2, 4),), {}
    automatch.match(nn.Linear(4, 4), nn.Linear(4, 4), source_inputs=given, target_inputs=given)


def _right(mapping: automatch.Mapping, pair: Pair) -> tuple[int, int]:
    """How many target weights are right, of how many."""
    if pair.reference is None:
        keys = _floating(pair.target)
        return sum(mapping[key].sources == (key,) for key in keys), len(keys)
    _disturb(pair.source)
    state = pair.source.state_dict()
    wanted = pair.reference(state, pair.target.state_dict())
    made = mapping.apply(state)
    return sum(key in made and _same(made[key], value) for key, value in wanted.items()), len(wanted)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def _floating(model: nn.Module) -> list[str]:
    return [key for key, value in model.state_dict().items() if value.is_floating_point()]


@torch.no_grad()
def _disturb(model: nn.Module) -> None:
    """Make every weight another one: fresh models have norms of one, biases of zero and counters that never counted."""
    for place, tensor in enumerate(_stored(model)):
        if tensor.is_floating_point():
            tensor.add_(torch.rand_like(tensor) - 0.5, alpha=0.1)
        elif tensor.ndim == 0:
            tensor.fill_(place)


def _stored(model: nn.Module) -> Iterator[Tensor]:
    """The tensors of the state dict, tied ones once."""
    yield from {tensor.data_ptr(): tensor for tensor in model.state_dict().values()}.values()
