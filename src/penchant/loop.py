"""The loop (paper, section 1): reward of the last answer, extraction, retrieval, and notes for any chat model."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import openai
from pydantic import TypeAdapter, ValidationError

from penchant.chat import astream, stream
from penchant.consider import consider, consider_all
from penchant.errors import InputError, ModelError
from penchant.extract.base import Extractor
from penchant.extract.dialogue import numbered_turns
from penchant.learn.base import Feedback, Learner
from penchant.learn.reward import Exchange as Rated
from penchant.learn.reward import Reward, RewardModel, heuristic_gate
from penchant.learn.state import Tolerant
from penchant.memory.memory import Cards, Memory
from penchant.memory.store import Changes, check_id
from penchant.prompt import notes_block, transcript_block, with_block
from penchant.reading import LIFE, Message, Reading
from penchant.retrieve.search import Retriever
from penchant.session import (
    ENDED,
    SESSION,
    Exchange,
    Learned,
    Prepared,
    Session,
    Settings,
    Summarise,
    crowded_out,
    ended,
    ended_of,
    session_of,
    turn_name,
)
from penchant.text import replace_surrogates
from penchant.types import Embedder, Extraction, Turn, utc_now

if TYPE_CHECKING:
    from penchant.wiring import LearnerName, RewardName

SUMMARY = "summary"
SAID = "said"
"""Names of what the modes ``reflection`` and ``contextual`` keep of a user."""

_SAID_TYPE = TypeAdapter(tuple[tuple[str, str], ...])
_log = logging.getLogger(__name__)


class Personalizer:
    """Puts what is known of a user in front of any chat model, and learns from what they write; thread-safe.

    Args:
        memory: the users' cards.
        extractor: reads messages.
        retriever: finds candidates.
        learner: ranks them by what the user's reactions showed.
        reward: estimates how content a reaction shows a user to be.
        summarise: for the mode ``reflection``.
        settings: how the loop runs.
    """

    def __init__(
        self,
        memory: Memory,
        extractor: Extractor,
        retriever: Retriever,
        learner: Learner,
        reward: RewardModel,
        *,
        summarise: Summarise | None = None,
        settings: Settings | None = None,
    ) -> None:
        self.memory, self.settings = memory, settings or Settings()
        learner = Tolerant(learner)
        self._retriever, self._learner, self._reward = retriever, learner, reward
        self._summarise = summarise
        self._key = f"{learner.name}:{retriever.embedder}"  # what was learned of one model's vectors suits no other's
        if self.settings.mode == "reflection" and summarise is None:
            raise InputError("summarise: the mode 'reflection' needs a function that sums sessions up")
        taught = learner if self.settings.mode == "vars" else None
        self._reading = Reading(memory, extractor, taught, self._key, retriever.embedder, self.settings.background)

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        settings: Settings | None = None,
        extractor: Extractor | None = None,
        embedder: Embedder | None = None,
        reranker: str = "embedded",
        learner: LearnerName = "evidence",
        reward: RewardName = "reader",
        judge: tuple[str, str | None] | None = None,
        summarise: Summarise | None = None,
    ) -> Personalizer:
        """Put one together from the embedded models, or others: see ``penchant.wiring.load_personalizer``."""
        from penchant.wiring import load_personalizer

        return load_personalizer(
            path,
            settings=settings,
            extractor=extractor,
            embedder=embedder,
            reranker=reranker,
            learner=learner,
            reward=reward,
            judge=judge,
            summarise=summarise,
        )

    def prepare(self, user: str, session: str, messages: Sequence[Mapping[str, Any]]) -> Prepared:
        """Take a user's message: learn from it, and return the messages with the notes that it needs.

        Args:
            user: whose.
            session: its name; what is learned outlives it.
            messages: the whole chat so far, as the chat model takes them; the last one is the user's. The same chat
                once more is taken for a second try, not for a new message.

        Raises:
            InputError: the messages cannot be read, the last one is not the user's, no session can be called so, or the
                personalizer is closed.
        """
        self._reading.check()
        check_id(session, "session")
        turns = [turn for _, turn in numbered_turns(messages)]
        if turns[-1].role != "user":
            raise InputError("messages: the last one must be the user's")
        ask, chat = replace_surrogates(turns[-1].content), _hash(turns)
        estimate = cache(self._estimate)  # a judge is not asked again when another writer was faster

        def decide(cards: Cards) -> tuple[Changes, tuple[bytes, Session, Exchange, float | None, str]]:
            before, life = session_of(cards, session), cards.snapshot.values.get(LIFE) or secrets.token_bytes(8)
            last = before.last
            again = last is not None and last.ask == ask and (not last.answer or last.chat == chat)
            reward, learned = (
                (None, self._known(cards)) if again else self._react(before, session, ask, cards, estimate)
            )
            now = self._consider(before.turns - again, ask, cards, learned).model_copy(update={"chat": chat})
            said = before.said
            if again and said[-1:] and said[-1][0] == "assistant":  # another answer is wanted
                said = said[:-1]
            elif not again and self.settings.mode in ("contextual", "reflection"):
                said = (*said, ("user", ask))
            update = {"turns": now.turn + 1, "last": now, "said": said, "used": utc_now()}
            after = before.model_copy(update=update)
            values: dict[str, bytes | None] = dict.fromkeys(crowded_out(cards.snapshot.values, session))
            values[SESSION + session] = after.dump()
            if LIFE not in cards.snapshot.values:
                values[LIFE] = life
            if learned is not self._known(cards):
                values[self._key] = learned
            return Changes(values=values), (life, before, now, reward, self._block(now, cards))

        life, before, now, reward, block = self.memory.change(user, decide)
        if self.settings.mode in ("all-memory", "rag", "vars"):
            reading = self._reading.start(Message(user, life, session, before, turns, now, reward))
        else:
            reading = Future()
            reading.set_result(Learned(Extraction()))
        return Prepared(with_block(messages, block), now.considered, reward, reading)

    def complete(self, user: str, session: str, reply: str) -> None:
        """Take the chat model's answer to the message that was prepared last."""

        def decide(cards: Cards) -> tuple[Changes | None, None]:
            state = session_of(cards, session)
            if state.last is None:
                return None, None
            answer = replace_surrogates(reply)
            said = (*state.said, ("assistant", answer)) if state.said else ()
            after = state.model_copy(update={"last": state.last.model_copy(update={"answer": answer}), "said": said})
            return Changes(values={SESSION + session: after.dump()}), None

        self.memory.change(user, decide)

    def chat(
        self, client: openai.OpenAI, user: str, session: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> Any:
        """Ask a chat model with the notes that the last message needs, and take its answer.

        Args:
            client: of any OpenAI-compatible server.
            user: whose message.
            session: its name.
            messages: the chat so far; the last one is the user's.
            options: of ``client.chat.completions.create``: ``model``, ``stream`` ...

        Returns:
            What the client returns: a completion, or with ``stream=True`` an iterator of its chunks.
        """
        prepared = self.prepare(user, session, messages)
        answer = client.chat.completions.create(messages=prepared.messages, **options)  # type: ignore[arg-type]
        if options.get("stream"):
            return stream(answer, partial(self.complete, user, session))
        self.complete(user, session, answer.choices[0].message.content or "")
        return answer

    async def achat(
        self, client: openai.AsyncOpenAI, user: str, session: str, messages: Sequence[Mapping[str, Any]], **options: Any
    ) -> Any:
        """Do as ``chat`` with an async client, without blocking the event loop."""
        prepared = await self.aprepare(user, session, messages)
        answer = await client.chat.completions.create(messages=prepared.messages, **options)  # type: ignore[arg-type]
        if options.get("stream"):
            return astream(answer, partial(self.complete, user, session))
        await self.acomplete(user, session, answer.choices[0].message.content or "")
        return answer

    def why(self, user: str, session: str) -> Exchange | None:
        """Return the last message of a session, what was considered for it and why.

        None: there was none, a card was deleted since, or the session is not among the last ``session.KEPT_ENDED``
        that have ended.
        """
        return why(self.memory, user, session)

    def rate(self, user: str, session: str, reward: float) -> None:
        """Take explicit feedback on the last answer, from -1 to 1; the user's next message then gives none.

        Raises:
            InputError: there is no answer, or the reward is out of its range.
        """
        if not -1 <= reward <= 1:
            raise InputError(f"reward: give a number from -1 to 1, not {reward}")

        def decide(cards: Cards) -> tuple[Changes, None]:
            state = session_of(cards, session)
            if state.last is None or not state.last.answer:
                raise InputError(f"session {session!r} has no answer to rate: call complete() first")
            if state.last.rated:
                raise InputError(f"session {session!r}: its last answer is rated already")
            values: dict[str, bytes | None] = {
                SESSION + session: state.model_copy(
                    update={"last": state.last.model_copy(update={"rated": True})}
                ).dump()
            }
            if self.settings.mode == "vars":
                name = turn_name(session, state.begun, state.last.turn)
                values[self._key] = self._learn(self._known(cards), state.last, name, cards, reward, 1.0)
            return Changes(values=values), None

        self.memory.change(user, decide)

    def end_session(self, user: str, session: str) -> None:
        """End a session, once what its user wrote has been read: what was learned stays, the short term goes."""
        self._reading.flush(user)
        summarise = cache(self._summarise) if self._summarise else None  # not again when another writer was faster

        def decide(cards: Cards) -> tuple[Changes | None, None]:
            state, values = session_of(cards, session), cards.snapshot.values
            if not cards.snapshot.version:
                return None, None
            new: dict[str, bytes | None] = {SESSION + session: None, **ended(values, session, state.last)}
            new[self._key] = self._learner.end_session(self._known(cards))
            if self.settings.mode == "contextual":
                new[SAID] = _SAID_TYPE.dump_json((*_said(values), *state.said))
            if summarise and state.said:
                new[SUMMARY] = summarise(_summary(values), state.said).encode()
            return Changes(values=new), None

        self.memory.change(user, decide)

    def reset_session(self, user: str, session: str) -> None:
        """Forget the state of a session, as if it had not begun; the cards, and what is learned for long, stay."""
        self._reading.check()

        def decide(cards: Cards) -> tuple[Changes | None, None]:
            if not cards.snapshot.version:
                return None, None
            learned = self._learner.end_session(self._known(cards))
            gone: dict[str, bytes | None] = dict.fromkeys((SESSION + session, ENDED + session))
            return Changes(values={**gone, self._key: learned}), None

        self.memory.change(user, decide)

    def reset_user(self, user: str) -> None:
        """Delete everything that is known of a user, for good."""
        self._reading.check()
        self.memory.delete_user(user)  # what was being read for them finds another ``LIFE``, or none

    def flush(self) -> None:
        """Wait until every message that was prepared has been read."""
        self._reading.flush()

    def close(self) -> None:
        """Read what is left to be read, and stop."""
        self._reading.close()

    async def aprepare(self, user: str, session: str, messages: Sequence[Mapping[str, Any]]) -> Prepared:
        """Do as ``prepare`` without blocking the event loop."""
        return await asyncio.to_thread(self.prepare, user, session, messages)

    async def acomplete(self, user: str, session: str, reply: str) -> None:
        """Do as ``complete`` without blocking the event loop."""
        await asyncio.to_thread(self.complete, user, session, reply)

    async def awhy(self, user: str, session: str) -> Exchange | None:
        """Do as ``why`` without blocking the event loop."""
        return await asyncio.to_thread(self.why, user, session)

    async def arate(self, user: str, session: str, reward: float) -> None:
        """Do as ``rate`` without blocking the event loop."""
        await asyncio.to_thread(self.rate, user, session, reward)

    async def aend_session(self, user: str, session: str) -> None:
        """Do as ``end_session`` without blocking the event loop."""
        await asyncio.to_thread(self.end_session, user, session)

    async def areset_session(self, user: str, session: str) -> None:
        """Do as ``reset_session`` without blocking the event loop."""
        await asyncio.to_thread(self.reset_session, user, session)

    async def areset_user(self, user: str) -> None:
        """Do as ``reset_user`` without blocking the event loop."""
        await asyncio.to_thread(self.reset_user, user)

    async def aflush(self) -> None:
        """Do as ``flush`` without blocking the event loop."""
        await asyncio.to_thread(self.flush)

    async def aclose(self) -> None:
        """Do as ``close`` without blocking the event loop."""
        await asyncio.to_thread(self.close)

    def __enter__(self) -> Self:
        """Return the personalizer itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the personalizer."""
        self.close()

    def _estimate(self, rated: Rated) -> Reward | None:
        """Return the reward of an answer; None: the model that estimates it fails."""
        try:
            return self._reward.estimate(rated)
        except ModelError as error:
            _log.warning("nothing is learned from a reaction: %s", error)
            return None

    def _react(
        self, before: Session, session: str, ask: str, cards: Cards, estimate: Callable[[Rated], Reward | None]
    ) -> tuple[float | None, bytes | None]:
        """Return the reward that a message gives the last answer, and what the learner knows then."""
        state, last = self._known(cards), before.last
        if (
            last is None
            or not last.answer
            or last.rated
            or self.settings.mode != "vars"
            or not self._is_ours(last, cards)
        ):
            return None, state
        candidates, chosen = last.candidates(cards)
        reaction = self._retriever.embed(ask)
        reward = estimate(Rated(last.ask, last.answer, ask, float(candidates.query @ reaction)))
        if reward is None:
            return None, state
        answered, following = (candidates.likest(chosen, message) for message in (candidates.query, reaction))
        gate = reward.gate
        if gate is None:
            gate = heuristic_gate(reward.value, answered, following, reward.strong)
        name = turn_name(session, before.begun, last.turn)
        return reward.value, self._learn(state, last, name, cards, reward.value, gate)

    def _learn(
        self, state: bytes | None, exchange: Exchange, name: str, cards: Cards, reward: float, gate: float
    ) -> bytes | None:
        if not self._is_ours(exchange, cards):
            return state
        candidates, chosen = exchange.candidates(cards)
        return self._learner.learn(state, Feedback(candidates, chosen, reward, gate, frozenset(), name))

    def _known(self, cards: Cards) -> bytes | None:
        """Return what the learner knows of a user."""
        return cards.snapshot.values.get(self._key)

    def _is_ours(self, exchange: Exchange, cards: Cards) -> bool:
        """Say whether cards were ranked for a message, by the embedding model that is used now."""
        return exchange.embedding(self._retriever.embedder, cards.dimensions()) is not None

    def _consider(self, turn: int, ask: str, cards: Cards, state: bytes | None) -> Exchange:
        if self.settings.mode == "all-memory":
            return consider_all(turn, ask, cards)
        if self.settings.mode not in ("rag", "vars"):
            return Exchange(turn=turn, ask=ask)
        learner = self._learner if self.settings.mode == "vars" else None
        return consider(turn, ask, cards, self._retriever, learner, state, self.settings)

    def _block(self, exchange: Exchange, cards: Cards) -> str:
        values = cards.snapshot.values
        if self.settings.mode == "contextual":
            return transcript_block(_said(values))
        if self.settings.mode == "reflection":
            return notes_block(_summary(values).splitlines())
        return notes_block(item.note for item in exchange.considered if item.shown)


def why(memory: Memory, user: str, session: str) -> Exchange | None:
    """Return the last message of a session, what was considered for it and why; None: nothing is kept of it."""
    cards = memory.read(user)
    return session_of(cards, session).last or ended_of(cards, session)


def _said(values: Mapping[str, bytes]) -> tuple[tuple[str, str], ...]:
    """Return what was said in earlier sessions; nothing, if it cannot be read."""
    try:
        return _SAID_TYPE.validate_json(values.get(SAID, b"[]"))
    except ValidationError:
        _log.warning("what was said in earlier sessions cannot be read; it counts as nothing")
        return ()


def _summary(values: Mapping[str, bytes]) -> str:
    """Return the summary of the sessions; of a damaged one what can be read."""
    return values.get(SUMMARY, b"").decode(errors="replace")


def _hash(turns: Sequence[Turn]) -> str:
    """Return what tells one chat from another."""
    said = json.dumps([(turn.role, turn.content) for turn in turns])
    return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()
