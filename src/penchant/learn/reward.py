"""The user's next message -> how content they are with the last answer, and how much of that retrieval earned."""

from __future__ import annotations

import re
from dataclasses import dataclass

NEGATIVE = (
    "you didn't", "that's not", "incorrect", "redo", "again", "explain more", "doesn't help", "wrong",
    "not what i asked", "不对", "不是这样", "错了", "重新", "再来", "没有回答", "没帮助",
)  # fmt: skip
POSITIVE = (
    "can you elaborate", "give an example", "continue", "what if", "based on that", "thanks", "good", "great", "cool",
    "谢谢", "很好", "不错", "继续", "举个例子", "如果",
)  # fmt: skip
"""The paper's keywords (section 6); it names its Chinese ones without listing them, so these are ours."""

ON_TOPIC = 0.3
OFF_TOPIC = 0.2


@dataclass(frozen=True)
class Reward:
    """How content a user is, in [-1, 1], and how sure the estimate is, in [0, 1]."""

    value: float
    confidence: float = 1.0


def keyword_reward(message: str, similarity: float) -> float:
    """Estimate the reward of an answer from the next message, by keywords (paper, section 6).

    Args:
        message: the user's next one.
        similarity: cosine of this message and the one that was answered.
    """
    text = message.casefold().replace("’", "'")
    reward = 0.0
    if _has(text, NEGATIVE):
        reward -= 1.0
    if _has(text, POSITIVE):
        reward += 0.5 + (0.5 if similarity > ON_TOPIC else 0.0)
    if similarity < OFF_TOPIC:
        reward /= 2
    return max(-1.0, min(1.0, reward))


def heuristic_gate(reward: float, likest: float) -> float:
    """Return how much of a reward retrieval earned (paper, section 6).

    Args:
        reward: of the last answer.
        likest: s_max, the largest similarity of an injected card to the query: that of the query that was answered, or
            of the next message, whichever is larger, so that "below 0.2" means below it for both.
    """
    if reward < -0.5 and likest < 0.2:
        return 0.9
    if reward < -0.5 and likest > 0.5:
        return 0.2
    if reward > 0.5:
        return 0.6 if likest > 0.4 else 0.3
    return 0.5


def _has(text: str, keywords: tuple[str, ...]) -> bool:
    """Say whether a keyword is there, at word borders where its script has them."""
    return any(
        re.search(rf"(?<!\w){re.escape(keyword)}(?!\w)", text) if keyword.isascii() else keyword in text
        for keyword in keywords
    )
