"""Penchant learns how each user likes things done.

import penchant

extractor = penchant.Extractor.load()
result = extractor.extract([{"role": "user", "content": "When you write Python for me, use type hints. Sort a list?"}])
for rule in result.preferences:
    print(rule.condition, rule.action, rule.confidence)
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from penchant.errors import InputError, MissingExtra, ModelError, ParseError, PenchantError, StoreError
from penchant.extract.base import Extractor
from penchant.types import Card, Evidence, Extraction, Preference, Turn

if TYPE_CHECKING:
    from penchant.loop import Personalizer
    from penchant.session import Settings

__version__ = "0.1.0"

__all__ = [
    "Card",
    "Evidence",
    "Extraction",
    "Extractor",
    "InputError",
    "MissingExtra",
    "ModelError",
    "ParseError",
    "PenchantError",
    "Personalizer",
    "Preference",
    "Settings",
    "StoreError",
    "Turn",
]


_LATER = {"Personalizer": "penchant.loop", "Settings": "penchant.session"}


def __getattr__(name: str) -> Any:
    """Import the loop when it is asked for, since it brings the memory and an HTTP client along."""
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
