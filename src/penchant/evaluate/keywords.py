"""A baseline that anyone could write in an hour: sentences with a preference word become rules."""

from __future__ import annotations

import re
from collections.abc import Sequence

from penchant.extract.base import Extractor
from penchant.extract.window import select_window
from penchant.types import ACTION_LIMIT, Extraction, Preference, Turn

_SENTENCE = re.compile(r"[^.!?\n]+")
_CUE = re.compile(
    r"\b(always|never|from now on|i prefer|i'd prefer|i would prefer|i like it when|i hate|i don't like|please don't"
    r"|don't ever|stop|instead of|i'm allergic|i am allergic|i'm a|i am a|too long|too short|keep it|make sure"
    r"|siempre|nunca|prefiero|toujours|jamais|je préfère|immer|niemals|bitte keine|ich mag)\b",
    re.IGNORECASE,
)


class KeywordExtractor(Extractor):
    """Take each user sentence that holds a cue word as a general rule."""

    batch_size = 256

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract by cue words."""
        return [Extraction(preferences=tuple(_rules(window))) for window in windows]


def _rules(window: Sequence[Turn]) -> list[Preference]:
    return [
        Preference(condition="general", action=sentence.strip()[:ACTION_LIMIT], confidence=0.5)
        for turn in select_window(window)
        if turn.role == "user"
        for sentence in _SENTENCE.findall(turn.content)
        if _CUE.search(sentence)
    ]
