"""Which source layer a target layer takes, where their numbers differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

from automatch.errors import PolicyError

LayerPolicy: TypeAlias = Literal["uniform", "first", "last"] | Sequence[int]


def pair_layers(policy: LayerPolicy, source_depth: int, target_depth: int) -> tuple[int, ...]:
    """For every target layer, in order, the source layer it takes.

    Args:
        policy: `uniform` spreads the target over the source, `int(i * n / m)`; `first` and `last` take consecutive
            layers from one end (a deeper target repeats the layer it runs out at); a sequence names them.
        source_depth: Number of source layers, `n`.
        target_depth: Number of target layers, `m`.

    Raises:
        PolicyError: The policy is unknown, or an explicit list has another length or names a layer that is not there.

    Example:
        >>> pair_layers("uniform", 40, 16)
        (0, 2, 5, 7, 10, 12, 15, 17, 20, 22, 25, 27, 30, 32, 35, 37)
        >>> pair_layers("last", 4, 2)
        (2, 3)
        >>> pair_layers("uniform", 2, 3)
        (0, 0, 1)
    """
    layers = range(target_depth)
    if policy == "uniform":
        return tuple(i * source_depth // target_depth for i in layers)
    if policy == "first":
        return tuple(min(i, source_depth - 1) for i in layers)
    if policy == "last":
        return tuple(max(0, source_depth - target_depth + i) for i in layers)
    if isinstance(policy, str):
        raise PolicyError(
            f"layer policy {policy!r} is unknown; use 'uniform', 'first', 'last' or a list of source layers"
        )
    return _explicit(policy, source_depth, target_depth)


def chain_policies(policy: LayerPolicy, depths: Sequence[tuple[int, int]]) -> tuple[LayerPolicy, ...]:
    """The policy of every pair of chains: an explicit list rules the chains that it fits, the others are uniform.

    Args:
        policy: The policy that was asked for.
        depths: Source and target depth of every pair of chains.

    Raises:
        PolicyError: An explicit list fits no chain.

    Example:
        >>> chain_policies([0, 3], [(4, 2), (6, 3)])
        ([0, 3], 'uniform')
    """
    if isinstance(policy, str):
        return (policy,) * len(depths)
    if not depths:
        raise PolicyError(f"the list of layers has {len(policy)} entries, but no repeated blocks could be paired")
    fitting = [len(policy) == target for _, target in depths]
    if not any(fitting):
        pair_layers(policy, *max(depths, key=lambda pair: pair[1]))  # raises, with both numbers
    return tuple(policy if fits else "uniform" for fits in fitting)


def policy_name(policy: LayerPolicy) -> str:
    """The policy's name as evidence states it; a list is `explicit`."""
    return policy if isinstance(policy, str) else "explicit"


def _explicit(layers: Sequence[int], source_depth: int, target_depth: int) -> tuple[int, ...]:
    if len(layers) != target_depth:
        raise PolicyError(f"the list of layers has {len(layers)} entries, but the target has {target_depth} layers")
    absent = [layer for layer in layers if not 0 <= layer < source_depth]
    if absent:
        raise PolicyError(f"the list of layers names {absent}, but the source has layers 0 to {source_depth - 1}")
    return tuple(layers)
