"""A message -> cards, and evidence of when they are wanted: read beside the chat model's work."""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from penchant.errors import InputError
from penchant.extract.base import Extractor
from penchant.forks import after_fork
from penchant.learn.base import Candidates, Feedback, Learner
from penchant.memory.memory import Cards, Memory
from penchant.memory.merge import Merged
from penchant.memory.store import Changes
from penchant.session import SESSION, Exchange, Learned, Session, session_of, turn_name
from penchant.text import clean_text, replace_surrogates
from penchant.types import Extraction, Preference, Source, Turn, utc_now

LIFE = "life"
"""The name of what is drawn by chance when a user comes for the first time.

What was begun for one who has been deleted since must not bring them back.
"""

SITUATIONS = 4
"""Messages of a session that a wish may be about, beside the one that it stands in."""

UNHAPPY = -0.2
"""A message that gives the last answer a reward below this is a complaint, and no situation of its own."""

LEAST_WORDS = 3
"""Words beside its wishes that make a message more than these."""

_WORD = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]|[^\W\u3040-\u30ff\u4e00-\u9fff]+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Message:
    """A message that was prepared and is to be read.

    Args:
        user: whose.
        life: the value of ``LIFE``.
        session: its name.
        before: the session before it.
        turns: the chat up to it.
        now: the message and what was considered for it.
        reward: what it shows of the last answer; None: nothing.
    """

    user: str
    life: bytes
    session: str
    before: Session
    turns: Sequence[Turn]
    now: Exchange
    reward: float | None


@dataclass(frozen=True)
class _Found:
    """A rule, the words that it rests on, and how many turns of the user came after these."""

    rule: Preference
    text: str
    ago: int


_Waiting = tuple[Message, Future[Learned]]


class Reading:
    """Reads messages, one after the other; may be shared between threads.

    A forked process reads what comes in it; what waited at the fork is read by its parent.

    Args:
        memory: keeps the cards.
        extractor: reads.
        learner: is told when a wish is wanted; None: nobody is.
        key: under which name the memory keeps what the learner knows.
        embedder: whose vectors it compares.
        background: read beside the caller's work, not before it goes on.
    """

    def __init__(
        self, memory: Memory, extractor: Extractor, learner: Learner | None, key: str, embedder: str, background: bool
    ) -> None:
        self._memory, self._extractor = memory, extractor
        self._learner, self._key, self._embedder, self._background = learner, key, embedder, background
        self._closed = False
        self._begin()
        after_fork(self._begin)  # the thread stays with the parent

    def _begin(self) -> None:
        """Begin with nothing to read."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="penchant-read")
        self._unread: deque[_Waiting] = deque()
        self._now: _Waiting | None = None
        self._lock = threading.Lock()

    def start(self, message: Message) -> Future[Learned]:
        """Read a message.

        Raises:
            InputError: it is closed.
        """
        done: Future[Learned] = Future()
        if not self._background:
            done.set_result(self._read(message))
            return done
        done.add_done_callback(_report)
        with self._lock:
            self.check()
            self._unread.append((message, done))
            self._pool.submit(self._next)
        return done

    def flush(self, user: str | None = None) -> None:
        """Wait until every message has been read, or every one of a user's, which then come before those of others.

        Raises:
            InputError: it is closed.
        """
        self.check()
        if user is None:
            self._pool.submit(lambda: None).result()
            return
        with self._lock:
            mine = [each for each in self._unread if each[0].user == user]
            self._unread = deque([*mine, *(each for each in self._unread if each[0].user != user)])
            if self._now and self._now[0].user == user:
                mine.append(self._now)
        wait([done for _, done in mine])

    def check(self) -> None:
        """Raise an InputError if it is closed."""
        if self._closed:
            raise InputError("this personalizer is closed: load another")

    def close(self) -> None:
        """Read what is left to be read, and stop."""
        with self._lock:
            self._closed = True
        self._pool.shutdown(wait=True)

    def _next(self) -> None:
        """Read the message whose turn it is; each that waits has a call of its own to come in the pool."""
        with self._lock:
            message, done = self._now = self._unread.popleft()
        try:
            if done.set_running_or_notify_cancel():
                done.set_result(self._read(message))
        except BaseException as error:
            done.set_exception(error)
        finally:
            self._now = None

    def _read(self, message: Message) -> Learned:
        """Extract, and in one write store the rules and what they teach, and note that the message has been read."""
        now, name = message.now, SESSION + message.session
        stored = session_of(self._memory.read(message.user), message.session)
        unread = now.turn + 1 - max(message.before.read, stored.read if stored.begun == message.before.begun else 0)
        if unread < 1:  # the app has sent it again
            return Learned(Extraction())
        extraction, found = _extract(self._extractor, message.turns, unread)
        if not extraction.valid:
            _log.warning("a message could not be read for preferences: %s", extraction.error)
            return Learned(extraction)
        vectors = self._memory.embed([each.rule for each in found])
        begun, time = message.before.begun, utc_now()
        rules = [
            (
                each.rule,
                Source(session=message.session, begun=begun, turns=(now.turn - each.ago,), text=each.text, time=time),
            )
            for each in found
        ]
        more = _is_more(message.turns, extraction)

        def decide(cards: Cards) -> tuple[Changes | None, tuple[Merged, ...]]:
            if cards.snapshot.values.get(LIFE) != message.life:
                return None, ()
            state, values = session_of(cards, message.session), dict[str, bytes | None]()
            same = state.begun == begun
            # of what another process has read by now, and maybe more that came later, nothing is new
            new = [i for i, each in enumerate(found) if not same or now.turn - each.ago >= state.read]
            changes, merged = self._memory.added(cards, message.user, [rules[i] for i in new], vectors[new])
            situations = (state if same else message.before).situations
            if same:
                update: dict[str, object] = {"read": max(state.read, now.turn + 1)}
                if more and now.query and (message.reward is None or message.reward >= UNHAPPY):
                    update["situations"] = (*situations, _bare(now))[-SITUATIONS:]
                values[name] = state.model_copy(update=update).dump()
            before = cards.snapshot.values.get(self._key)
            here = [(item, vectors[i]) for item, i in zip(merged, new, strict=True) if not found[i].ago]
            after = self._taught(before, message, here, () if more else situations)
            if after is not before:
                values[self._key] = after
            if not changes.cards and not values:
                return None, merged
            return replace(changes, values=values), merged

        return Learned(extraction, self._memory.change(message.user, decide))

    def _taught(
        self,
        known: bytes | None,
        message: Message,
        wishes: Sequence[tuple[Merged, NDArray[np.float32]]],
        situations: Sequence[Exchange],
    ) -> bytes | None:
        """Return what the learner knows once it is told of the wishes of a message, each with its vector.

        A wish is wanted where it was let be known; if a message is nothing but wishes, also where it was lacking: for
        the earlier message of the session that is most like it.
        """
        if self._learner is None:
            return known
        gone = {old.id for item, _ in wishes for old in item.superseded}
        for item, vector in wishes:
            if item.outcome == "known" or item.card.is_global or item.card.id in gone:
                continue
            earlier = self._embedded(situations, len(vector))
            places = [max(earlier, key=lambda each: float(each[1] @ vector))] if earlier else []
            for place, query in [*places, *self._embedded([message.now], len(vector))]:
                nothing = Candidates((), np.zeros((0, len(query)), np.float32), np.zeros(0), query)
                name = turn_name(message.session, message.before.begun, place.turn)
                wanted = frozenset({item.card.id})
                known = self._learner.learn(known, Feedback(nothing, np.zeros(0, np.int64), 0.0, 0.0, wanted, name))
        return known

    def _embedded(self, messages: Sequence[Exchange], dimensions: int) -> list[tuple[Exchange, NDArray[np.float32]]]:
        """Return messages with their embeddings, those that have one."""
        found = ((each, each.embedding(self._embedder, dimensions)) for each in messages)
        return [(each, vector) for each, vector in found if vector is not None]


def _extract(extractor: Extractor, turns: Sequence[Turn], unread: int) -> tuple[Extraction, list[_Found]]:
    """Extract from a chat.

    Args:
        extractor: reads.
        turns: up to the message that was prepared.
        unread: the user's last turns that no reading has seen, with those that a crash left.

    Returns:
        The extraction, and those rules that rest on unread turns, in the order in which they were said.
    """
    asked = [index for index, turn in enumerate(turns) if turn.role == "user"]
    fresh = asked[-unread:]
    if not any(clean_text(turns[index].content).strip() for index in fresh):
        return Extraction(), []
    extraction = extractor.extract(turns)
    if extraction.preferences and not extraction.evidence and fresh[0]:
        # which turns they rest on is not known: the unread ones alone, with the answer before them
        answered = turns[fresh[0] - 1].role == "assistant"
        extraction = extractor.extract(turns[fresh[0] - answered :])
    if not extraction.evidence:
        words = replace_surrogates(turns[-1].content)
        return extraction, [_Found(rule, words, 0) for rule in extraction.preferences]
    found = [
        _Found(rule, replace_surrogates(evidence.text), sum(index > evidence.turn for index in asked))
        for rule, evidence in zip(extraction.preferences, extraction.evidence, strict=True)
        if evidence.turn in fresh
    ]
    return extraction, sorted(found, key=lambda each: -each.ago)


def _is_more(turns: Sequence[Turn], extraction: Extraction) -> bool:
    """Say whether the last message is more than the wishes in it; where these are is not known of some extractors."""
    if extraction.preferences and not extraction.evidence:
        return False
    rest = list(turns[-1].content)
    for each in extraction.evidence:
        if each.turn == len(turns) - 1:
            rest[each.start : each.end] = " " * (each.end - each.start)
    return len(_WORD.findall("".join(rest))) >= LEAST_WORDS


def _bare(exchange: Exchange) -> Exchange:
    return exchange.model_copy(update={"ask": "", "considered": (), "answer": ""})


def _report(reading: Future[Learned]) -> None:
    """Log what went wrong in the background; the caller may ask the future, too."""
    if not reading.cancelled() and (error := reading.exception()):
        _log.error("a message was not read for preferences: %s", error)
