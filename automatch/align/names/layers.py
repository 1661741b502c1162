"""Which source layer every layer of a target chain takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automatch.align.names.patterns import Index, Path, Pattern, depths
from automatch.align.names.vocabulary import HOLE
from automatch.align.policy import LayerPolicy, pair_layers, policy_name
from automatch.core.mapping import LayerPairing
from automatch.errors import PolicyError


@dataclass(frozen=True, slots=True)
class Layers:
    """Paired chains with their layers.

    Attributes:
        numbers: Per target chain and number in a target key, the number in the source key.
        positions: The same, but the source layer counted from 0.
        pairings: The pairings as the alignment states them.
    """

    numbers: dict[Path, dict[int, int]]
    positions: dict[Path, dict[int, int]]
    pairings: tuple[LayerPairing, ...]

    def source_index(self, target: Pattern, index: Index) -> Index:
        """The block numbers of the source weight that a target weight takes."""
        return tuple(self.numbers[chain][number] for chain, number in zip(target.chains, index, strict=True))

    def source_layer(self, target: Pattern, index: Index) -> int | None:
        """The source layer, counted from 0 in the outermost chain; None outside repeated blocks."""
        return self.positions[target.chains[0]][index[0]] if target.chains else None


def layers_of(
    chains: dict[Path, Path], source: Sequence[Pattern], target: Sequence[Pattern], policy: LayerPolicy
) -> Layers:
    """Pair the layers of paired chains.

    The policy is for outermost chains; an explicit list for those among them that are as deep as it is long. All others
    are paired uniformly.

    Raises:
        PolicyError: The policy is unknown, or an explicit list fits no chain.
    """
    from_, onto = depths(source), depths(target)
    ruled = {chain for chain in chains if chain.count(HOLE) == 1 and _suits(policy, len(onto[chain]))}
    if not ruled:
        outermost = {chain: partner for chain, partner in chains.items() if chain.count(HOLE) == 1}
        _refuse(policy, {chain: (len(from_[partner]), len(onto[chain])) for chain, partner in outermost.items()})
    numbers: dict[Path, dict[int, int]] = {}
    positions: dict[Path, dict[int, int]] = {}
    pairings = []
    for chain, partner in chains.items():
        own: LayerPolicy = policy if chain in ruled else "uniform"
        taken = pair_layers(own, len(from_[partner]), len(onto[chain]))
        positions[chain] = dict(zip(onto[chain], taken, strict=True))
        numbers[chain] = {number: from_[partner][at] for number, at in positions[chain].items()}
        names = _full_name(partner, source), _full_name(chain, target)
        pairings.append(LayerPairing(*names, len(from_[partner]), policy_name(own), taken))
    return Layers(numbers, positions, tuple(pairings))


def _suits(policy: LayerPolicy, depth: int) -> bool:
    return isinstance(policy, str) or len(policy) == depth


def _refuse(policy: LayerPolicy, sizes: dict[Path, tuple[int, int]]) -> None:
    """Raise what is wrong with a policy that no chain follows; a known name is no fault."""
    if isinstance(policy, str) or sizes:
        pair_layers(policy, *max(sizes.values(), key=lambda size: size[1], default=(1, 1)))
        return
    raise PolicyError(f"the list of layers has {len(policy)} entries, but no repeated blocks could be paired")


def _full_name(chain: Path, patterns: Sequence[Pattern]) -> str:
    """What a chain is called in whole keys, with `{i}` for its own number."""
    inside = next(pattern for pattern in patterns if chain in pattern.chains)
    parts = inside.members[0][1].name.split(".")
    cut = len(parts) - len(inside.path)
    outer = [HOLE if part == HOLE else name for part, name in zip(chain[:-1], parts[cut:], strict=False)]
    return ".".join([*parts[:cut], *outer, "{i}"])
