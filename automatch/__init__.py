"""automatch finds out by itself how one PyTorch model's weights map onto another's.

Example:
    >>> import automatch
    >>> automatch.__version__
    '0.1.0'
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from automatch.checkpoint.digests import verify
    from automatch.conversion.convert import convert
    from automatch.conversion.load import load_into
    from automatch.errors import AutomatchError
    from automatch.from_rules import adapt
    from automatch.mapping import Mapping, load
    from automatch.matching import match
    from automatch.rules.ruleset import RuleSet
    from automatch.suggesting import suggest

__version__ = "0.1.0"
__all__ = [
    "AutomatchError",
    "Mapping",
    "RuleSet",
    "__version__",
    "adapt",
    "convert",
    "load",
    "load_into",
    "match",
    "suggest",
    "verify",
]

# Imported on first use: `import automatch` and `automatch --help` do not pay for torch.
_HOMES = {
    "AutomatchError": "automatch.errors",
    "Mapping": "automatch.mapping",
    "RuleSet": "automatch.rules.ruleset",
    "adapt": "automatch.from_rules",
    "convert": "automatch.conversion.convert",
    "load": "automatch.mapping",
    "load_into": "automatch.conversion.load",
    "match": "automatch.matching",
    "suggest": "automatch.suggesting",
    "verify": "automatch.checkpoint.digests",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module 'automatch' has no attribute {name!r}")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value
