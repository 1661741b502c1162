"""Under `torchrun`: the command line, with one process that dies, or that finds a file cut short, while it writes."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automatch.cli import main
from automatch.conversion import distributed, run
from tests.conversion.ranked_processes import rank


def disturbed(action: Callable[..., Any], trouble: str) -> Callable[..., Any]:
    """A function, and before it what the trouble is: `die`, or the path of a file that loses its last bytes."""

    def doing(*given: Any, **named: Any) -> Any:
        if trouble == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        os.truncate(trouble, Path(trouble).stat().st_size - 8)
        return action(*given, **named)

    return doing


if __name__ == "__main__":
    if rank() == 1:
        run.write_items = disturbed(run.write_items, sys.argv[1])  # type: ignore[attr-defined]
        distributed.make_box = disturbed(distributed.make_box, sys.argv[1])  # type: ignore[attr-defined]
    sys.exit(main(sys.argv[2:]))
