"""Under `torchrun`: conversions one after another, as their arguments in JSON say, and what each process was told."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch

from automatch.conversion.convert import convert
from tests.conversion.ranked_processes import rank


def run(call: dict[str, Any]) -> tuple[int, str, int]:
    """Convert; which process this is, what it has written to, and how many bytes were its share."""
    told = [(0, 0)]
    done = convert(**call, progress=lambda now, all_of_it: told.append((now, all_of_it)))
    assert all(file.exists() for file in done.files)
    assert told[-1][0] == told[-1][1]
    return rank(), call["out"], told[-1][1]


if __name__ == "__main__":
    torch.set_num_threads(1)
    for call in json.loads(sys.argv[1]):
        sys.stdout.write(json.dumps(run(call)) + "\n")
