"""A target slot and the source slot that plays its role, or none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from automatch.align.anchors import Anchors
from automatch.align.assignment import Match
from automatch.align.candidates import Candidate

_TELLING = 0.25


@dataclass(frozen=True, slots=True)
class RolePair:
    """One target candidate and what was found for it.

    Attributes:
        target: The target's candidate.
        source: The source's candidate in the same role; None where pairing was refused.
        cost: What the pair costs; None without a partner.
        margin: How much more the runner-up would cost; None where there was none.
        rival: The runner-up.
        crowd: How many other source candidates are nearly as good.
        twins: How many others, on the source's side or the target's, only their order tells from the chosen one.
        layer: The source layer, inside chains.
    """

    target: Candidate
    source: Candidate | None = None
    cost: float | None = None
    margin: float | None = None
    rival: Candidate | None = None
    crowd: int = 0
    twins: int = 0
    layer: int | None = None

    def at_layer(self, layer: int) -> RolePair:
        """The same pair, said to come from a source layer."""
        return replace(self, layer=layer)

    def moved(self, source: Callable[[int], int | None], target: Callable[[int], int | None]) -> RolePair | None:
        """The same pair in another pair of blocks; None where the target block has nothing in this place."""
        moved_target = _moved(self.target, target)
        if moved_target is None:
            return None
        return replace(self, target=moved_target, source=_moved(self.source, source), rival=_moved(self.rival, source))


def role_pair(sources: Sequence[Candidate], target: Candidate, match: Match | None) -> RolePair:
    """A pair from an assignment's result; without a match, a refusal."""
    if match is None:
        return RolePair(target)
    rival = None if match.runner_up is None else sources[match.runner_up]
    return RolePair(target, sources[match.source], match.cost, match.margin, rival, match.crowd, match.twins)


def reasons(pair: RolePair) -> tuple[str, ...]:
    """Sentences that say why the two play one role."""
    if pair.source is None:
        return ()
    norms = pair.source.norm, pair.target.norm
    if norms[0] and norms[1] and norms[0].on_stream != norms[1].on_stream:
        places = ["on the residual stream" if norm.on_stream else "on the branch" for norm in norms if norm]
        return (
            f"both are the norm of {norms[1].branch}",
            f"the source's stands {places[0]}, the target's {places[1]}: the two do not compute the same",
        )
    found = []
    if fed := _common(pair.source.forward, pair.target.forward):
        found.append(f"both feed {', '.join(fed)}")
    if from_ := _common(pair.source.backward, pair.target.backward):
        found.append(f"both come from {', '.join(from_)}")
    if pair.source.crossed == pair.target.crossed and pair.target.crossed:
        found.append(f"both are part of {'cross' if True in pair.target.crossed else 'self'}-attention")
    if pair.source.inputs and pair.source.inputs == pair.target.inputs:
        found.append(f"both depend on {', '.join(sorted(pair.target.inputs))}")
    return tuple(found)


def _common(first: Anchors, second: Anchors) -> list[str]:
    shared = {label: min(weight, second.get(label, 0.0)) for label, weight in first.items()}
    telling = sorted(
        (label for label, weight in shared.items() if weight >= _TELLING), key=lambda label: -shared[label]
    )
    return [_said(label) for label in telling]


def _said(label: str) -> str:
    """An anchor in words."""
    chain, _, port = label.partition(".")
    if chain.startswith("chain "):
        return f"the {'stream' if port == 'stream' else 'side inputs'} of {chain}"
    if chain == "attention" and port:
        return f"attention as its {port}"
    if chain.startswith("stream"):
        return f"the block's {label}"
    return {"outside": "outside the block", "input": "an input", "output": "an output"}.get(label, label)


def _moved(candidate: Candidate | None, move: Callable[[int], int | None]) -> Candidate | None:
    if candidate is None:
        return None
    index = move(candidate.slot.landmark)
    return None if index is None else replace(candidate, slot=replace(candidate.slot, landmark=index))
