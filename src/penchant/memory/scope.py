"""Whether a rule holds everywhere or under a condition (paper, section 3: global or conditional).

The paper takes any condition of at most two words without a domain's term for global. Of the conditions that our
extractor writes, nearly all open with "when", "if" or "for" and name a situation, however short ("for recipes"): of
the 1,791 conditional rules in data/relevance, the paper's rule alone takes 206 for global. So it is asked about others.
"""

from __future__ import annotations

import re

from penchant.types import OPENING

_UNIVERSAL = re.compile(
    r"\b(general|generally|any|anything|anytime|always|all|every|everything|everywhere|regardless|whatever)\b"
)
_DOMAIN = re.compile(
    r"\b(math|code|coding|program|writing|essay|science|history|language|physics|chemistry|biology|literature|creative"
    r"|technical|formal|informal|academic|casual)\b"
)


def is_global(condition: str) -> bool:
    """Say whether a rule of this condition skips retrieval.

    It does if the condition has a universal word, at word borders, or has at most two words, none of a domain, and does
    not open as the name of a situation does.
    """
    text = condition.casefold()
    if _UNIVERSAL.search(text):
        return True
    return len(text.split()) <= 2 and not _DOMAIN.search(text) and not OPENING.match(text.lstrip())
