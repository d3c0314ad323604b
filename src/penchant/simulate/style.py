"""The paper's offline style personas (section 8): no judge, rules check what the chat model wrote.

Session 1 lets the wishes be known, session 2 only asks, and the sessions after it mix in complaints and praise. Each
persona's memory also holds rules about other things, so that the right cards have to be found.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from penchant.data.pairs import ProfileRule
from penchant.learn.space import ItemSpace
from penchant.loop import Personalizer
from penchant.memory.memory import Memory
from penchant.prompt import sanitise
from penchant.retrieve.search import Retriever
from penchant.session import Settings
from penchant.simulate.arms import ARMS, Arm
from penchant.simulate.collab import learned
from penchant.simulate.hear import Hearing, Noise, prompt_lines, told
from penchant.simulate.models import Models
from penchant.simulate.talk import Voice, voice_of
from penchant.simulate.users import User
from penchant.simulate.write import LANGUAGES, STYLES, VIOLATIONS, Persona, compose, violations
from penchant.testing import MemoryStore
from penchant.types import Preference, Source, utc_now

PERSONAS = tuple(
    persona
    for limit in (None, 240, 120)
    for bullets in (False, True)
    for language in LANGUAGES
    if (persona := Persona(limit, bullets, language)).rules
)
ARM_NAMES = ("vanilla", "all-memory", "rag", "vars", "paper")
OTHERS = 8
"""Rules about other things in each memory."""

QUESTIONS = (
    ("How do I keep basil alive on a windowsill?", "keeping basil alive", "养罗勒"),
    ("What should I know before buying a used car?", "buying a used car", "买二手车"),
    ("Is it worth learning to touch type?", "touch typing", "盲打"),
    ("Why do cats knead blankets?", "cats that knead", "猫踩奶"),
    ("What makes sourdough rise?", "sourdough", "酸面团"),
    ("How does compound interest work?", "compound interest", "复利"),
    ("How can I sleep better in summer?", "sleep in summer", "夏天的睡眠"),
    ("What is the point of a heat pump?", "heat pumps", "热泵"),
    ("How do I prepare for a job interview?", "job interviews", "面试"),
    ("Can you explain how vaccines train the immune system?", "vaccines", "疫苗"),
    ("Which exercises help against back pain?", "back pain", "背痛"),
    ("What does a product manager do all day?", "the work of a product manager", "产品经理的工作"),
    ("怎样才能坚持跑步？", "running", "跑步"),
    ("为什么天空是蓝色的？", "the colour of the sky", "天空的颜色"),
    ("学吉他要从哪里开始？", "learning the guitar", "学吉他"),
    ("怎么挑选一台笔记本电脑？", "choosing a laptop", "挑选笔记本电脑"),
)


@dataclass(frozen=True)
class Answered:
    """A question that was answered: in which phase (1 to 3), what was wrong, and which known cards were shown."""

    phase: int
    wrong: frozenset[str]
    shown: dict[str, bool]


@dataclass(frozen=True)
class StyleRow:
    """An arm in one phase: shares of the answers; recall of the cards that are known, by wish."""

    arm: str
    phase: int
    answers: int
    satisfaction: float
    violations: dict[str, float]
    recall: dict[str, float | None]


@dataclass(frozen=True)
class StyleResult:
    """All arms and phases, and how like the vectors of like personas are.

    ``p_value`` takes pairs of personas for independent, which they are not.
    """

    rows: tuple[StyleRow, ...]
    personas: int
    answers: int
    spearman: float | None
    p_value: float | None


def run_style(
    models: Models,
    strangers: Sequence[ProfileRule],
    space: ItemSpace,
    seed: int,
    rounds: int = 20,
    asks: int = 12,
    floor: float = float("-inf"),
) -> StyleResult:
    """Run every persona with every arm.

    Args:
        models: what the loop asks.
        strangers: rules about other things, for the personas' memories.
        space: the item space of the paper's learner.
        seed: the only source of chance.
        rounds: sessions with complaints.
        asks: questions of a session.
        floor: least score of a note that is retrieved.
    """
    arms = [arm for arm in ARMS if arm.name in ARM_NAMES]
    found: dict[str, list[Answered]] = {arm.name: [] for arm in arms}
    vectors: list[NDArray[np.float64]] = []
    for persona, arm in product(PERSONAS, arms):
        life = _Life(persona, arm, models, strangers, space, seed, floor)
        with life.loop:
            found[arm.name] += life.run(rounds, asks)
            vectors += life.vector()
    rows = [_row(arm.name, phase, found[arm.name]) for phase in (2, 3) for arm in arms]
    rho, p_value = likeness(vectors, PERSONAS)
    return StyleResult(tuple(rows), len(PERSONAS), len(found["paper"]) // len(PERSONAS), rho, p_value)


def likeness(vectors: Sequence[NDArray[np.float64]], personas: Sequence[Persona]) -> tuple[float | None, float | None]:
    """Return Spearman's correlation of cos(z, z') with the overlap of wishes over pairs of personas, and its p."""
    pairs = list(combinations(range(len(personas)), 2))
    norms = [max(float(np.linalg.norm(vector)), 1e-12) for vector in vectors]
    cosines = [float(vectors[i] @ vectors[j]) / norms[i] / norms[j] for i, j in pairs]
    overlaps = [personas[i].overlap(personas[j]) for i, j in pairs]
    if len(set(cosines)) < 2 or len(set(overlaps)) < 2:
        return None, None
    result = spearmanr(cosines, overlaps)
    return float(result.statistic), float(result.pvalue)


class _Life:
    """One persona with one arm."""

    def __init__(
        self,
        persona: Persona,
        arm: Arm,
        models: Models,
        strangers: Sequence[ProfileRule],
        space: ItemSpace,
        seed: int,
        floor: float,
    ) -> None:
        self._persona, self._learner = persona, arm.learner(space)
        self._user = User(persona.id, "profile", persona.rules, ())
        self._voice: Voice = voice_of(self._user, seed=seed)
        self._embedder = models.embedder
        self._rng = random.Random(f"{seed}/{persona.id}")
        self._messages: list[dict[str, Any]] = []
        self._answers: list[Answered] = []
        memory = Memory(MemoryStore(), models.embedder, models.relate)
        self.loop = Personalizer(
            memory,
            Hearing(self._voice, persona.rules, (), Noise(1.0, 0.0), f"{seed}/{persona.id}"),
            Retriever(models.embedder, models.reranker),
            self._learner,
            models.reward,
            settings=Settings(mode=arm.mode, floor=floor, background=False),
        )
        for rule in self._rng.sample(list(strangers), min(OTHERS, len(strangers))):
            words = Preference(condition=rule.condition, action=rule.action, confidence=0.9)
            memory.add(persona.id, words, Source(session="earlier", text=rule.note, time=utc_now()))

    def run(self, rounds: int, asks: int) -> list[Answered]:
        """Run all sessions and return the answers."""
        for number in range(2 + rounds):
            name, phase = f"s{number}", min(number + 1, 3)
            self._messages = []
            reveal = [rule.id for rule in self._persona.rules] if phase == 1 else []
            for question in self._questions(asks):
                if reveal:
                    self._say(name, self._rng.choice(self._voice.wordings[reveal.pop()]), question)
                answered = self._ask(name, phase, question)
                self._answers.append(answered)
                if phase == 3:
                    self._react(name, answered, question)
            self.loop.end_session(self._user.id, name)
        return self._answers

    def vector(self) -> list[NDArray[np.float64]]:
        """Return z_L, if this arm has one."""
        long = learned(self.loop.memory, self._user.id, self._learner, self._embedder)
        return [] if long is None else [long]

    def _questions(self, asks: int) -> list[tuple[str, str, str]]:
        return self._rng.sample(QUESTIONS, min(asks, len(QUESTIONS)))

    def _ask(self, name: str, phase: int, question: tuple[str, str, str]) -> Answered:
        cards = {self._voice.notes.get(sanitise(card.note)) for card in self.loop.memory.cards(self._user.id)}
        given, answer = self._say(name, question[0], question)
        shown = {self._voice.notes.get(line.removeprefix("- ")) for line in prompt_lines(given)}
        known: dict[str, bool] = {style: style in shown for style in STYLES if style in cards}
        return Answered(phase, frozenset(violations(answer, self._persona)), known)

    def _react(self, name: str, answered: Answered, question: tuple[str, str, str]) -> None:
        """Complain of one violation, half of the time, or say something kind, now and then."""
        broken = [
            style
            for style, wrong in zip(STYLES, VIOLATIONS, strict=True)
            if wrong in answered.wrong and style in self._voice.wordings
        ]
        draw = self._rng.random()
        if broken and draw < 0.5:
            self._say(name, self._rng.choice(self._voice.wordings[self._rng.choice(broken)]), question)
        elif not broken and draw < 0.3:
            self._say(name, self._rng.choice(self._voice.closings), question)

    def _say(self, name: str, text: str, question: tuple[str, str, str]) -> tuple[list[dict[str, Any]], str]:
        self._messages.append({"role": "user", "content": text})
        given = self.loop.prepare(self._user.id, name, self._messages).messages
        answer = compose(question[1:], self._persona, told(given, self._voice))
        self._messages.append({"role": "assistant", "content": answer})
        self.loop.complete(self._user.id, name, answer)
        return given, answer


def _row(arm: str, phase: int, answers: Sequence[Answered]) -> StyleRow:
    mine = [answered for answered in answers if answered.phase == phase]
    count = max(1, len(mine))
    rates: dict[str, float] = {name: sum(name in answered.wrong for answered in mine) / count for name in VIOLATIONS}
    recall: dict[str, float | None] = {}
    for style in STYLES:
        hits = [answered.shown[style] for answered in mine if style in answered.shown]
        recall[style] = sum(hits) / len(hits) if hits else None
    satisfaction = 1 - sum(rates.values()) / len(VIOLATIONS)
    return StyleRow(arm, phase, len(mine), satisfaction, rates, recall)
