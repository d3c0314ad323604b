"""Penchant learns how each user likes things done.

import penchant

extractor = penchant.Extractor.load()
result = extractor.extract([{"role": "user", "content": "When you write Python for me, use type hints. Sort a list?"}])
for rule in result.preferences:
    print(rule.condition, rule.action, rule.confidence)
"""

from typing import TYPE_CHECKING, Any

from penchant.errors import InputError, MissingExtra, ModelError, ParseError, PenchantError, StoreError
from penchant.extract.base import Extractor
from penchant.types import Card, Evidence, Extraction, Preference, Turn

if TYPE_CHECKING:
    from penchant.loop import Personalizer

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
    "StoreError",
    "Turn",
]


def __getattr__(name: str) -> Any:
    """Import the loop when it is asked for, since it brings the memory and an HTTP client along."""
    if name == "Personalizer":
        from penchant.loop import Personalizer

        return Personalizer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
