"""Keys of a checkpoint that was saved under a wrapper, as the mapping knows them.

`DataParallel`, `torch.compile` and a model inside a model put words before every key, or into it: `module.`,
`_orig_mod.`, `model.`. Whether a mapping's keys carry them depends on what was matched, so nothing is taken away unless
the mapping's keys are found only then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

INSIDE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
"""What wrappers of single layers put into keys, at any depth."""


def renamed(found: Collection[str], needed: Collection[str]) -> tuple[dict[str, str], str]:
    """The checkpoint's own key for every key as the mapping would write it.

    Args:
        found: The checkpoint's keys.
        needed: The mapping's source keys.

    Returns:
        The keys, and what was done as a sentence; empty where nothing was.

    Example:
        >>> renamed(["module.a.weight", "module.b"], ["a.weight"])
        ({'a.weight': 'module.a.weight', 'b': 'module.b'}, "every key begins with 'module.', and was read without it")
        >>> renamed(["a.weight"], ["model.a.weight"])
        ({'model.a.weight': 'a.weight'}, "every key was read as if it began with 'model.'")
    """
    best, sentence = {key: key for key in found}, ""
    wanted = set(needed)
    hits = len(wanted & best.keys())
    if hits == len(wanted):
        return best, ""
    for names, reason in _readings(found, wanted):
        if len(names) == len(found) and len(wanted & names.keys()) > hits:
            best, sentence, hits = names, reason, len(wanted & names.keys())
    return best, sentence


def _readings(found: Collection[str], wanted: Collection[str]) -> Iterator[tuple[dict[str, str], str]]:
    plain = {_without_wrappers(key): key for key in found}
    unwrapped = "" if plain.keys() == set(found) else "names of wrappers inside the keys were left out"
    if unwrapped:
        yield plain, unwrapped
    for prefix in _shared_prefixes(plain):
        reason = f"every key begins with {prefix!r}, and was read without it"
        yield {key.removeprefix(prefix): own for key, own in plain.items()}, _joined(unwrapped, reason)
    for prefix in _shared_prefixes(wanted):
        reason = f"every key was read as if it began with {prefix!r}"
        yield {prefix + key: own for key, own in plain.items()}, _joined(unwrapped, reason)


def _without_wrappers(key: str) -> str:
    for word in INSIDE:
        key = key.replace(word, "")
    return key


def _shared_prefixes(keys: Collection[str]) -> list[str]:
    """Every run of leading words that all keys have in common, the last word of a key excepted, shortest first."""
    if not keys:
        return []
    # What the first and the last in order share, all share.
    first, last = min(keys).split(".")[:-1], max(keys).split(".")[:-1]
    shared: list[str] = []
    for one, other in zip(first, last, strict=False):
        if one != other:
            break
        shared.append(one)
    return [".".join(shared[:end]) + "." for end in range(1, len(shared) + 1)]


def _joined(*sentences: str) -> str:
    return "; ".join(sentence for sentence in sentences if sentence)
