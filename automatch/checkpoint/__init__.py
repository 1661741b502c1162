"""Files -> `Catalog`: which tensors a checkpoint holds, and where their bytes lie; no tensor is loaded.

`open` is the way in: `index` finds the files that a path means, each is read by its format, and `shards` makes one
catalog of theirs. A new format is a module that makes a `Catalog`, and a line in `open`; there are

- `safetensors_header`, which also writes headers;
- `torch_file`: `torch_archive` unpickles it, `entries` chooses the state dict, `strides` tells where a tensor lies;
- `distributed`: `distributed_metadata` unpickles its index, `boxes` joins the parts of a tensor, and every part is read
  as a torch file is.

`catalog` and `dtypes` are the words that all of them share. `reading` gives bytes by place, `loading` whole tensors.
"""

from __future__ import annotations

from automatch.checkpoint.catalog import Catalog, Stored
from automatch.checkpoint.loading import load_checkpoint
from automatch.checkpoint.open import open_checkpoint, read_shapes

__all__ = ["Catalog", "Stored", "load_checkpoint", "open_checkpoint", "read_shapes"]
