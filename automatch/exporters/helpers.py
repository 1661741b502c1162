"""Functions that emitted modules bring along, each only where it is used."""

from __future__ import annotations

from collections.abc import Iterable

_NUMBERS = '''
def _numbers(keys: Iterable[str], *patterns: str) -> list[int]:
    """Find the numbers that keys have where a pattern has its group, ascending."""
    matches = [re.match(pattern, key) for key in keys for pattern in patterns]
    return sorted({int(match[1]) for match in matches if match})
'''

_SIZE = '''
def _size(shapes: Mapping[str, Any], pattern: str, axis: int) -> int:
    """Read the one size that an axis has in all weights whose keys fit a pattern."""
    found = [value for key, value in shapes.items() if re.fullmatch(pattern, key)]
    sizes = {getattr(value, "shape", value)[axis] for value in found}
    if len(sizes) != 1:
        raise ValueError(f"{pattern}: axis {axis} is {sorted(sizes)}, not one size")
    return sizes.pop()
'''

_TO_PAIRS = '''
def _to_pairs(weight: Tensor, heads: int, dim: int = 0) -> Tensor:
    """Put each entry of a head's first half beside its partner of the second half."""
    split = weight.unflatten(dim, (heads, 2, -1))
    return split.transpose(dim + 1, dim + 2).flatten(dim, dim + 2)
'''

_TO_HALVES = '''
def _to_halves(weight: Tensor, heads: int, dim: int = 0) -> Tensor:
    """Put the first entries of a head's pairs before the second entries."""
    split = weight.unflatten(dim, (heads, -1, 2))
    return split.transpose(dim + 1, dim + 2).flatten(dim, dim + 2)
'''

_TO_PAIRS_FIRST = '''
def _first_to_pairs(weight: Tensor, heads: int, first: int, dim: int = 0) -> Tensor:
    """Rearrange the first entries of each head from halves to pairs."""
    split = weight.unflatten(dim, (heads, -1))
    rotated, kept = split.tensor_split([first], dim=dim + 1)
    rotated = rotated.unflatten(dim + 1, (2, -1)).transpose(dim + 1, dim + 2)
    joined = torch.cat([rotated.flatten(dim + 1, dim + 2), kept], dim=dim + 1)
    return joined.flatten(dim, dim + 1)
'''

_TO_HALVES_FIRST = '''
def _first_to_halves(weight: Tensor, heads: int, first: int, dim: int = 0) -> Tensor:
    """Rearrange the first entries of each head from pairs to halves."""
    split = weight.unflatten(dim, (heads, -1))
    rotated, kept = split.tensor_split([first], dim=dim + 1)
    rotated = rotated.unflatten(dim + 1, (-1, 2)).transpose(dim + 1, dim + 2)
    joined = torch.cat([rotated.flatten(dim + 1, dim + 2), kept], dim=dim + 1)
    return joined.flatten(dim, dim + 1)
'''

_INTERLEAVE = '''
def _interleave(weights: list[Tensor], groups: int, dim: int = 0) -> Tensor:
    """Cut every weight into groups along an axis, and let the weights take turns."""
    split = [weight.unflatten(dim, (groups, -1)) for weight in weights]
    return torch.cat(split, dim=dim + 1).flatten(dim, dim + 1)
'''

_WEIGHT_NORM = '''
def _weight_norm(g: Tensor, v: Tensor, dim: int | None = 0) -> Tensor:
    """Make the weight of length g and direction v; dim keeps its lengths."""
    axes = [axis for axis in range(v.dim()) if axis != dim]
    return g * v / torch.linalg.vector_norm(v, dim=axes, keepdim=True)
'''

_WIDE = '''
def _wide(weight: Tensor) -> Tensor:
    """Widen a weight to float32, where its own dtype is narrower."""
    narrow = weight.is_floating_point() and weight.itemsize < 4
    return weight.float() if narrow else weight
'''

_ROUNDED = '''
def _rounded(result: Tensor, *weights: Tensor) -> Tensor:
    """Round what was computed from weights to their dtype."""
    dtype = weights[0].dtype
    for weight in weights:
        dtype = torch.promote_types(dtype, weight.dtype)
    return result.to(dtype) if dtype.is_floating_point else result
'''

_INVERSE_SOFTPLUS = '''
def _inverse_softplus(weight: Tensor) -> Tensor:
    """Find what softplus takes to a weight."""
    return weight + torch.log(-torch.expm1(-weight))
'''

_LISTED = '''
def _listed(keys: list[str]) -> str:
    """Write keys for a message, the first twenty of them."""
    more = f", and {len(keys) - 20} more" if len(keys) > 20 else ""
    return ", ".join(keys[:20]) + more
'''

_CONFIG = '''
def _config(config: Any, *paths: str) -> int:
    """Read the first of some numbers that a configuration has."""
    for path in paths:
        value = config
        for name in path.split("."):
            value = getattr(value, name, None)
        if value is not None:
            return value
    raise ValueError(f"the configuration has none of {', '.join(paths)}")
'''

HELPERS = {
    "_numbers": _NUMBERS,
    "_size": _SIZE,
    "_to_pairs": _TO_PAIRS,
    "_to_halves": _TO_HALVES,
    "_first_to_pairs": _TO_PAIRS_FIRST,
    "_first_to_halves": _TO_HALVES_FIRST,
    "_interleave": _INTERLEAVE,
    "_weight_norm": _WEIGHT_NORM,
    "_wide": _WIDE,
    "_rounded": _ROUNDED,
    "_inverse_softplus": _INVERSE_SOFTPLUS,
    "_config": _CONFIG,
    "_listed": _LISTED,
}


def sources(used: Iterable[str]) -> list[str]:
    """The source of helpers by their names, in a fixed order."""
    wanted = set(used)
    return [text.strip() for name, text in HELPERS.items() if name in wanted]
