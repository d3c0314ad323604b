"""Whether a rule holds everywhere or under a condition (paper, section 3: global or conditional)."""

from __future__ import annotations

import re

_UNIVERSAL = re.compile(
    r"\b(general|generally|any|anything|anytime|always|all|every|everything|everywhere|regardless|whenever|whatever)\b"
)
_DOMAIN = re.compile(
    r"\b(math|code|coding|program|writing|essay|science|history|language|physics|chemistry|biology|literature|creative"
    r"|technical|formal|informal|academic|casual)\b"
)


def is_global(condition: str) -> bool:
    """Say whether a rule of this condition skips retrieval.

    It does if the condition has a universal word, at word borders, or has at most two words, none of a domain.
    """
    text = condition.casefold()
    return bool(_UNIVERSAL.search(text)) or (len(text.split()) <= 2 and not _DOMAIN.search(text))
