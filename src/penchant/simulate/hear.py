"""The chat model and the extractor of the simulation: both know what the users' phrases mean.

The chat model follows every rule that it is told of, and no other. The extractor is an oracle with two faults whose
rates are given: it misses wishes, and finds some where there are none.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from penchant.data.pairs import ProfileRule
from penchant.extract.base import Extractor
from penchant.prompt import CLOSE, OPEN, sanitise
from penchant.simulate.talk import Voice, variants
from penchant.types import Evidence, Extraction, Preference, Turn, note

HISTORY = 200
"""Lines of earlier conversations that the chat model follows, the last ones (mode ``contextual``)."""

SUMMARY = 24
"""Most lines of a summary (mode ``reflection``), the last ones."""

REWORDED = 0.3
"""How often a rule is found in other words than its own."""


@dataclass(frozen=True)
class Noise:
    """How well the extractor hears.

    Args:
        recall: how likely an enforced rule is found.
        false: how likely a message gives a rule that the user does not have.
    """

    recall: float = 0.65
    false: float = 0.05


def told(messages: Sequence[Mapping[str, Any]], voice: Voice) -> set[str]:
    """Return the ids of the rules that the chat model is told of.

    These are the notes in the system message; of earlier conversations that stand there in their place, what was
    enforced in the last ``HISTORY`` lines; and what was enforced in this conversation.
    """
    lines = prompt_lines(messages)
    found = {voice.notes.get(line.removeprefix("- ")) for line in lines}
    found |= {voice.heard.get(line.removeprefix("user: ")) for line in lines[-HISTORY:]}
    found |= {voice.heard.get(sanitise(str(turn["content"]))) for turn in messages if turn["role"] == "user"}
    return {rule for rule in found if rule is not None}


def prompt_lines(messages: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the block that the loop put into the system message."""
    text = str(messages[0]["content"]) if messages[0]["role"] == "system" else ""
    return [line for line in text.partition(OPEN)[2].partition(CLOSE)[0].splitlines() if line.strip()]


class Hearing(Extractor):
    """An extractor of one user's phrases with faults; what it finds does not depend on the mode.

    The n-th time that a rule is enforced it is found, or not, whenever that is.

    Args:
        voice: the user's.
        rules: the user's.
        strangers: rules that are found where there are none.
        noise: how often.
        seed: the only source of chance.
    """

    batch_size = 1

    def __init__(
        self, voice: Voice, rules: Sequence[ProfileRule], strangers: Sequence[ProfileRule], noise: Noise, seed: str
    ) -> None:
        self._voice, self._noise, self._seed = voice, noise, seed
        self._rules = {rule.id: rule for rule in rules}
        self._strangers = [
            words for rule in strangers for words in variants(rule)[:1] if sanitise(note(words)) not in voice.notes
        ]
        self._times: Counter[str] = Counter()

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Read the last turn of each window; earlier ones were read before."""
        return [self._extract(window) for window in windows]

    def hear(self, text: str) -> list[Preference]:
        """Return the rules that are found in a message."""
        found = []
        if rule := self._voice.heard.get(sanitise(text)):
            chance = self._chance(rule)
            if chance.random() < self._noise.recall:
                own, *other = variants(self._rules[rule])
                found.append(chance.choice(other) if other and chance.random() < REWORDED else own)
        chance = self._chance("message")
        if self._strangers and chance.random() < self._noise.false:
            found.append(chance.choice(self._strangers))
        return found

    def summarise(self, summary: str, said: Sequence[tuple[str, str]]) -> str:
        """Return the summary with the rules heard in a session at its end, at most ``SUMMARY`` lines."""
        heard = [note(rule) for role, text in said if role == "user" for rule in self.hear(text)]
        lines = [line for line in summary.splitlines() if line not in heard] + list(dict.fromkeys(heard))
        return "\n".join(lines[-SUMMARY:])

    def _extract(self, window: Sequence[Turn]) -> Extraction:
        text = window[-1].content
        found = tuple(self.hear(text))
        where = Evidence(turn=len(window) - 1, start=0, end=len(text), text=text)
        return Extraction(preferences=found, evidence=(where,) * len(found))

    def _chance(self, name: str) -> random.Random:
        self._times[name] += 1
        return random.Random(f"{self._seed}/{name}/{self._times[name]}")
