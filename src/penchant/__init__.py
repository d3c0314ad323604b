"""Penchant learns how each user likes things done.

import penchant

extractor = penchant.Extractor.load()
result = extractor.extract([{"role": "user", "content": "When you write Python for me, use type hints. Sort a list?"}])
for rule in result.preferences:
    print(rule.condition, rule.action, rule.confidence)
"""

from penchant.errors import InputError, MissingExtra, ModelError, ParseError, PenchantError
from penchant.extract.base import Extractor
from penchant.types import Evidence, Extraction, Preference, Turn

__version__ = "0.1.0"

__all__ = [
    "Evidence",
    "Extraction",
    "Extractor",
    "InputError",
    "MissingExtra",
    "ModelError",
    "ParseError",
    "PenchantError",
    "Preference",
    "Turn",
]
