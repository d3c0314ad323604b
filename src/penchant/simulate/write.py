"""The chat model of the style personas: real text in the style that it is told of, and rules that check the style."""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass
from typing import Literal

from penchant.data.pairs import ProfileRule

Style = Literal["short", "bullets", "language"]
Violation = Literal["too_long", "no_bullets", "wrong_lang"]
Language = Literal["en", "zh"]

LANGUAGES: tuple[Language, ...] = ("en", "zh")
STYLES: tuple[Style, ...] = ("short", "bullets", "language")
VIOLATIONS: tuple[Violation, ...] = ("too_long", "no_bullets", "wrong_lang")

CONDITION = "when answering my questions"

ENGLISH = (
    "There is more than one way to look at {}, and it helps to begin with what most people get wrong about it.",
    "In practice, {} depends on a few things that are easy to overlook when one is in a hurry.",
    "It is worth taking the time to understand the background before making any decision.",
    "A common piece of advice is to start small, watch what happens, and then adjust from there.",
    "Experts on {} do not always agree with each other, but on the main points there is little doubt.",
    "If something does not work at first, that is no reason to give up on it altogether.",
    "Finally, keep in mind that circumstances differ, so that what suits one person may not suit another.",
)
CHINESE = (
    "关于{}，可以从几个不同的角度来看。",
    "实际上，{}取决于一些容易被忽视的因素。",
    "在做决定之前，先了解背景是值得的。",
    "常见的建议是从小处着手，观察结果，然后再调整。",
    "专家们的看法并不完全一致，但在主要问题上没有什么分歧。",
    "如果一开始不顺利，也不必因此放弃。",
    "最后请记住，每个人的情况都不一样。",
)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s", re.MULTILINE)
_HAN = re.compile(r"[\u4e00-\u9fff]")
_LETTER = re.compile(r"[^\W\d_]")


@dataclass(frozen=True)
class Persona:
    """How a user wants answers to look.

    Args:
        limit: most characters; None: any length.
        bullets: whether there must be a list.
        language: of the answer.
    """

    limit: int | None
    bullets: bool
    language: Language

    @property
    def id(self) -> str:
        """A name."""
        return f"{self.limit or 'long'}-{'bullets' if self.bullets else 'prose'}-{self.language}"

    @property
    def rules(self) -> tuple[ProfileRule, ...]:
        """The persona as rules; what the chat model does anyway is no rule."""
        actions: dict[Style, str | None] = {
            "short": f"keep the answer under {self.limit} characters" if self.limit else None,
            "bullets": "use bullet points" if self.bullets else None,
            "language": "answer in Chinese" if self.language == "zh" else None,
        }
        return tuple(
            ProfileRule(id=name, condition=CONDITION, action=action) for name, action in actions.items() if action
        )

    def overlap(self, other: Persona) -> float:
        """Return the share of the three wishes that are the same."""
        pairs = zip(
            (self.limit, self.bullets, self.language), (other.limit, other.bullets, other.language), strict=True
        )
        return sum(one == two for one, two in pairs) / 3


def compose(topic: tuple[str, str], persona: Persona, follows: Set[str]) -> str:
    """Write an answer: long English prose, but for the rules that are followed.

    Args:
        topic: in English and in Chinese.
        persona: whose rules.
        follows: which of them, by id.
    """
    chinese = "language" in follows
    sentences = [text.format(topic[chinese]) for text in (CHINESE if chinese else ENGLISH)]
    limit = persona.limit if "short" in follows else None
    mark, gap = ("- ", "\n") if "bullets" in follows else ("", "" if chinese else " ")
    text = ""
    for sentence in sentences:
        longer = f"{text}{gap if text else ''}{mark}{sentence}"
        if limit is not None and len(longer) > limit:
            return text or longer[:limit]
        text = longer
    return text


def violations(text: str, persona: Persona) -> set[Violation]:
    """Return in what an answer is not as a persona wants it."""
    letters = max(1, len(_LETTER.findall(text)))
    chinese = len(_HAN.findall(text)) / letters > 0.3
    found: set[Violation] = set()
    if persona.limit is not None and len(text) > persona.limit:
        found.add("too_long")
    if persona.bullets and not _BULLET.search(text):
        found.add("no_bullets")
    if chinese != (persona.language == "zh"):
        found.add("wrong_lang")
    return found
