"""Every deliberate error of automatch: what is wrong, with which tensor or file, and what to do next.

A caller may catch `AutomatchError` for all of them. The command line prints the message without a traceback
and exits with status 2.
"""

from __future__ import annotations

from collections.abc import Sequence


class AutomatchError(Exception):
    """The base of every error that automatch raises on purpose."""


class ModelError(AutomatchError):
    """A model could not be named, imported or built."""


class InputsError(AutomatchError):
    """Example inputs are missing, malformed, or do not fit the model's forward."""


class InputsWarning(UserWarning):
    """Example inputs cannot tell right weights from wrong ones; others were drawn beside them."""


class UnreadWarning(UserWarning):
    """Tensors of a checkpoint were left out, since nothing reads them and the mapping was made without them."""


class CoincidenceWarning(UserWarning):
    """Numbers were equal in the models that rules were learned from, so that the rules may mean any of them."""


class TraceError(AutomatchError):
    """No rung of the tracing ladder could record the model."""


class CheckpointError(AutomatchError):
    """A file is not a checkpoint that can be read, or contradicts itself."""


class MappingError(AutomatchError):
    """A mapping does not fit what it is used on."""


class MappingFormatError(MappingError):
    """A mapping (or expectation) file is damaged, of another kind, or of another version."""


class InverseError(MappingError):
    """A mapping has no inverse: some source weights cannot be told from the target's."""


class PolicyError(AutomatchError):
    """A layer policy names layers that are not there."""


class RulesError(AutomatchError):
    """Rules cannot be read, do not fit the models they are used on, or cannot be exported."""


class LiftError(AutomatchError):
    """A mapping between small twins does not say what some keys of the full-size models are made of."""


def together(error: type[AutomatchError], headline: str, problems: Sequence[str], limit: int = 20) -> AutomatchError:
    """One error that lists many problems, so that they are mended in one go.

    Example:
        >>> print(together(MappingError, "2 keys do not fit:", ["a: [2] and [3]", "b: missing"]))
        2 keys do not fit:
          a: [2] and [3]
          b: missing
    """
    shown = [f"  {problem}" for problem in problems[:limit]]
    if len(problems) > limit:
        shown.append(f"  ... and {len(problems) - limit} more")
    return error("\n".join([headline, *shown]))
