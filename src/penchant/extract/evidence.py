"""A rule -> the words of the user that it rests on, found by alignment after decoding.

What the model read of the user's turns is cut into sentences. Each is scored against the rule by the encoder's cosine
with the action (the condition is what all of the chat is about) and by the words, names and numbers that they share;
the best one is the evidence. If even its cosine is too low, the rule is dropped: small models echo the assistant's
words and examples. Shared words play no part in that, for a user who does not write English shares none with a rule.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penchant.extract.encoder import Encoder
from penchant.extract.window import user_spans
from penchant.text import replace_surrogates
from penchant.types import Evidence, Preference, Turn

_BORDER = re.compile(r"(?<=[.!?;:…؟۔।])\s+|(?<=[。！？；])|\s*\n\s*")
_WORD = re.compile(r"\w+")
_LONGEST = 400
_SHORTEST = 12
_COMMON = frozenset(
    _WORD.findall(
        "a an the and or of to in on for with when if is are be do not use using only instead all any that this it as "
        "at by from give keep avoid make write answer answers general writing user users always never i you my me your"
    )
)
WORD_WEIGHT = 0.4
"""Weight of the shared words beside the cosine."""


@dataclass(frozen=True)
class Support:
    """The evidence of a rule, and how well it supports it: their cosine."""

    evidence: Evidence
    cosine: float


def find_support(rules: Sequence[Preference], turns: Sequence[Turn], encoder: Encoder) -> list[Support]:
    """Find what each rule rests on, among the user's turns.

    Args:
        rules: of one window.
        turns: the window; the evidence's ``turn`` is an index into it.
        encoder: embeds the actions and the sentences.

    Raises:
        InputError: no user turn with any text.
    """
    if not rules:
        return []
    places = [
        (index, begin + start, begin + end)
        for index, begin, stop in user_spans(turns)
        for start, end in sentences(turns[index].content[begin:stop])
    ]
    texts = [replace_surrogates(turns[index].content[start:end]) for index, start, end in places]
    vectors = encoder.embed([*(replace_surrogates(rule.action) for rule in rules), *texts])
    cosines = vectors[: len(rules)] @ vectors[len(rules) :].T
    found = []
    for rule, best in enumerate((cosines + WORD_WEIGHT * _shared(rules, texts)).argmax(1).tolist()):
        index, start, end = places[best]
        evidence = Evidence(turn=index, start=start, end=end, text=texts[best])
        found.append(Support(evidence, float(cosines[rule, best])))
    return found


def rule_text(rule: Preference) -> str:
    """Return a rule as the encoder was trained to read it."""
    return f"{rule.condition}: {rule.action}"


def sentences(text: str) -> list[tuple[int, int]]:
    """Return the character spans of the sentences of a text; very short ones belong to the next, long ones are cut."""
    spans: list[tuple[int, int]] = []
    start = 0
    for border in [*_BORDER.finditer(text), None]:
        end = border.start() if border else len(text)
        if border and end - start < _SHORTEST:
            continue
        spans += _trimmed(text, start, end)
        start = border.end() if border else end
    return spans


def _trimmed(text: str, start: int, end: int) -> list[tuple[int, int]]:
    spans = []
    while start < end:
        stop = end
        if end - start > _LONGEST:
            space = text.rfind(" ", start + _LONGEST // 2, start + _LONGEST)
            stop = space if space > 0 else start + _LONGEST
        piece = text[start:stop]
        left, right = len(piece) - len(piece.lstrip()), len(piece.rstrip())
        if right > left:
            spans.append((start + left, start + right))
        start = stop
    return spans


def _shared(rules: Sequence[Preference], texts: Sequence[str]) -> NDArray[np.float64]:
    """Return the share of each rule's telling words that each text has too, shape (rules, texts)."""
    words = [_stems(text) for text in texts]
    wanted = [_stems(rule_text(rule)) for rule in rules]
    return np.array([[len(a & b) / max(1, len(a)) for b in words] for a in wanted])


def _stems(text: str) -> set[str]:
    return {word[:5] for word in _WORD.findall(text.casefold()) if word not in _COMMON}
