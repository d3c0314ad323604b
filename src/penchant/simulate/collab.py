"""Collaboration over many sessions: the user brings a task, and enforces their rules until the answer follows them.

A session is about one task. An answer has to follow the task's rules and the general ones. One that it does not follow
is violated, and the user enforces one violated rule a turn, sometimes after a word of no consequence. The chat model
follows every rule that it is told of (``hear.told``); when it writes its answer anew it keeps what was right about the
last one, unless ``Conduct.keeps`` says otherwise. A user whose tenth message was answered with a violation gives up.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penchant.data.pairs import ProfileRule
from penchant.learn.base import Learner
from penchant.learn.paper import PaperLearner
from penchant.learn.space import ItemSpace
from penchant.loop import Personalizer
from penchant.memory.memory import Memory
from penchant.prompt import sanitise
from penchant.session import Settings
from penchant.simulate.arms import Arm
from penchant.simulate.hear import HISTORY, Hearing, Noise, prompt_lines, told
from penchant.simulate.models import Models
from penchant.simulate.sensitivity import Regated
from penchant.simulate.talk import Voice, ask, reply
from penchant.simulate.users import Task, User, task_order
from penchant.testing import MemoryStore
from penchant.types import Embedder

TOKENS_A_WORD = 1.3
"""Tokens of a word, and of a Chinese or Japanese character: an estimate."""

_CHARACTER = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


@dataclass(frozen=True)
class Conduct:
    """How users and the chat model behave.

    Args:
        turns: after so many messages of the user a session ends, whatever the answer.
        aside: how likely the user says something of no consequence in place of enforcing a rule.
        praise: how likely the last word is one of ``Voice.closings``; else the user just goes.
        keeps: whether an answer that is written anew keeps what was right about the last one.
        noise: how well the extractor hears.
        floor: least score of a note that is retrieved.
    """

    turns: int = 10
    aside: float = 0.2
    praise: float = 0.8
    keeps: bool = True
    noise: Noise = field(default_factory=Noise)
    floor: float = float("-inf")


@dataclass(frozen=True)
class Played:
    """A session and what it took.

    Args:
        user: whose.
        kind: of the user.
        trained: whether the shipped reranker was trained on the user.
        arm: what the chat model was given.
        seed: of the run.
        session: its number.
        before: how often the same task had been brought before.
        enforcements: turns in which a rule was enforced.
        turns: messages of the user, the last word left out.
        timeout: whether the user gave up.
        tokens: of all that the user wrote.
        recall: of the rules that apply and that a conditional card says, the share in the first prompt; None: none.
        precision: of the notes in the first prompt, the share that applies; None: there are none.
        notes: lines of notes or of earlier conversations that the chat model reads in the first prompt.
    """

    user: str
    kind: str
    trained: bool
    arm: str
    seed: int
    session: int
    before: int
    enforcements: int
    turns: int
    timeout: bool
    tokens: float
    recall: float | None
    precision: float | None
    notes: int


@dataclass(frozen=True)
class Life:
    """All sessions of a user with one arm and one seed; ``norm`` is |z_L| at their end, of the paper's learner."""

    sessions: tuple[Played, ...]
    norm: float | None = None


def live(
    user: User,
    voice: Voice,
    strangers: Sequence[ProfileRule],
    arm: Arm,
    seed: int,
    sessions: int,
    models: Models,
    space: ItemSpace,
    conduct: Conduct,
) -> Life:
    """Let a user come so many times, with an empty memory at first."""
    hearing = Hearing(voice, user.rules, strangers, conduct.noise, f"{seed}/{user.id}")
    learner, reward = arm.learner(space), arm.reward or models.reward
    loop = Personalizer(
        Memory(MemoryStore(), models.embedder, models.relate),
        hearing,
        arm.retriever(models.embedder, models.reranker),
        learner,
        learner.watch(reward, models.embedder) if isinstance(learner, Regated) else reward,
        summarise=hearing.summarise,
        settings=Settings(mode=arm.mode, floor=conduct.floor if arm.floor is None else arm.floor, background=False),
    )
    played: list[Played] = []
    order = task_order(user, seed, sessions)
    with loop:
        for number, place in enumerate(order):
            before = order[:number].count(place)
            rng = random.Random(f"{seed}/{user.id}/session {number}")
            talk = _Talk(loop, user, voice, f"s{number}")
            played.append(_session(talk, user.tasks[place], before, rng, conduct, arm.name, seed, number))
            loop.end_session(user.id, talk.name)
    long = learned(loop.memory, user.id, learner, models.embedder)
    return Life(tuple(played), None if long is None else float(np.linalg.norm(long)))


def learned(memory: Memory, user: str, learner: Learner, embedder: Embedder) -> NDArray[np.float64] | None:
    """Return a user's z_L; None: the learner has none."""
    if not isinstance(learner, PaperLearner):
        return None
    return learner.vectors(memory.read(user).snapshot.values.get(f"{learner.name}:{embedder.name}")).long


class _Talk:
    """One session's messages, as an app keeps them."""

    def __init__(self, loop: Personalizer, user: User, voice: Voice, name: str) -> None:
        self.loop, self.user, self.voice, self.name = loop, user, voice, name
        self.turns, self.tokens = 0, 0.0
        self._messages: list[dict[str, Any]] = []

    def say(self, text: str) -> list[dict[str, Any]]:
        """Say something, let it be answered, and return the messages that the chat model was given."""
        self._messages.append({"role": "user", "content": text})
        prepared = self.loop.prepare(self.user.id, self.name, self._messages)
        answer = reply(text)
        self._messages.append({"role": "assistant", "content": answer})
        self.loop.complete(self.user.id, self.name, answer)
        self.turns += 1
        self.tokens += TOKENS_A_WORD * len(_CHARACTER.sub(" x ", text).split())
        return prepared.messages


def _session(
    talk: _Talk, task: Task, before: int, rng: random.Random, conduct: Conduct, arm: str, seed: int, number: int
) -> Played:
    user, voice = talk.user, talk.voice
    applicable = user.applicable(task)
    known = known_rules(talk.loop.memory, user.id, voice) & applicable
    given = talk.say(ask(task.text, before))
    lines = prompt_lines(given)[-HISTORY:]
    shown = [voice.notes.get(line.removeprefix("- ")) for line in lines if line.startswith("- ")]
    follows = told(given, voice)
    enforcements = 0
    while (violated := sorted(applicable - follows)) and talk.turns < conduct.turns:
        if rng.random() < conduct.aside:
            talk.say(rng.choice(voice.asides))
            continue
        enforcements += 1
        again = told(talk.say(rng.choice(voice.wordings[rng.choice(violated)])), voice)
        follows = follows | again if conduct.keeps else again
    turns = talk.turns
    if not violated and rng.random() < conduct.praise:
        talk.say(rng.choice(voice.closings))
    return Played(
        user=user.id,
        kind=user.kind,
        trained=user.trained,
        arm=arm,
        seed=seed,
        session=number,
        before=before,
        enforcements=enforcements,
        turns=turns,
        timeout=bool(violated),
        tokens=talk.tokens,
        recall=len(known & set(shown)) / len(known) if known else None,
        precision=sum(rule in applicable for rule in shown) / len(shown) if shown else None,
        notes=len(lines),
    )


def known_rules(memory: Memory, user: str, voice: Voice) -> set[str]:
    """Return the ids of the rules that an active conditional card says."""
    cards = (card for card in memory.cards(user) if not card.is_global)
    found = (voice.notes.get(sanitise(card.note)) for card in cards)
    return {rule for rule in found if rule is not None}
