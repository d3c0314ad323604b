"""Labelled windows without a teacher: wishes from a bank set into real distractor dialogues.

A wish (data/labelled/wishes.jsonl) is said in several ways, has a contrary twin and look-alikes that carry no wish.
Set before, after, into or long before a task, recombined, taken back, quoted from somebody else or pasted, they make
windows whose labels are known. Everything is a function of the inputs and the seed.
"""

from __future__ import annotations

import itertools
import math
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from penchant.data import phrases
from penchant.errors import InputError, first_fault
from penchant.extract.window import MAX_TURNS
from penchant.types import ACTION_LIMIT, CONDITION_LIMIT, REQUIRED_ABOVE, LabelledWindow, Preference, Turn, Window

Kind = Literal[
    "alone", "task", "earlier", "statement", "several", "opposite", "replaced", "reaction",
    "retracted", "third-party", "quoted", "look-alike", "none",
]  # fmt: skip

SHARES: dict[Kind, float] = {
    "alone": 0.20,
    "task": 0.19,
    "earlier": 0.06,
    "statement": 0.08,
    "several": 0.08,
    "opposite": 0.10,
    "replaced": 0.02,
    "reaction": 0.05,
    "retracted": 0.02,
    "third-party": 0.02,
    "quoted": 0.02,
    "look-alike": 0.12,
    "none": 0.04,
}
"""How much of each kind is made unless the caller says otherwise."""

_CUE = re.compile(
    r"\b(always|never|from now on|prefer|i'm|i am|i like|i love|i hate|i don't|please don't|don't ever|remember"
    r"|my (?:wife|husband|son|daughter|kid)|in (?:the )?future|every time|stop)\b",
    re.IGNORECASE,
)


# what rules and last turns take, so that a line that makes none is named when it is read
_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
_Condition = Annotated[_Text, Field(max_length=CONDITION_LIMIT)]
_Action = Annotated[_Text, Field(max_length=ACTION_LIMIT)]


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Said(_Entry):
    """One way in which a user lets a wish be known."""

    kind: Literal["explicit", "fact", "correction", "praise", "hint"]
    text: _Text
    confidence: float = Field(ge=0, le=1)


class Opposite(_Entry):
    """The contrary wish."""

    text: _Text
    action: _Action
    confidence: float = Field(ge=0, le=1)


class Wish(_Entry):
    """A wish of the bank; ``look_alikes`` (``not`` in the file) resemble it and carry none."""

    id: str
    domain: str
    condition: _Condition
    action: _Action
    said: tuple[Said, ...] = Field(min_length=1)
    opposite: Opposite
    look_alikes: tuple[_Text, ...] = Field(alias="not", min_length=1)

    def rule(self, confidence: float) -> Preference:
        """Return the wish as a rule."""
        return Preference(condition=self.condition, action=self.action, confidence=confidence)


class Reaction(_Entry):
    """A user's reaction to an answer, how satisfied it shows them (-1 to 1), and the preferences it carries."""

    text: _Text
    reward: float = Field(ge=-1, le=1)
    label: str
    preferences: tuple[Preference, ...]


class Exchange(_Entry):
    """A question, an answer, and several reactions to it."""

    id: str
    domain: str
    ask: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    reactions: tuple[Reaction, ...] = Field(min_length=1)


Entry = TypeVar("Entry", bound=BaseModel)


def load_entries(path: Path, kind: type[Entry]) -> list[Entry]:
    """Read a bank of wishes or exchanges, JSON Lines.

    Raises:
        InputError: the file is missing or empty, or a line is not such an entry; names line and field.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    entries = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            entries.append(kind.model_validate_json(line))
        except ValidationError as error:
            raise InputError(f"{path}:{number}: {first_fault(error, kind.__name__)}") from error
    if not entries:
        raise InputError(f"{path} is empty: give one {kind.__name__.lower()} a line")
    return entries


def is_plain(window: Window) -> bool:
    """Say whether no user turn has a word that often goes with a wish, so that it can serve as a distractor."""
    return not any(_CUE.search(turn.content) for turn in window.turns if turn.role == "user")


def check_shares(shares: Mapping[Kind, float]) -> None:
    """Check that kinds can be drawn by their shares.

    Raises:
        InputError: a kind is unknown, a share is negative, or none is above 0.
    """
    if unknown := set(shares) - set(get_args(Kind)):
        raise InputError(f"no kind {sorted(unknown)[0]!r}: choose among {', '.join(get_args(Kind))}")
    for kind, share in shares.items():
        if not 0 <= share < math.inf:
            raise InputError(f"the share of {kind} is {share:g}: give 0 or more")
    if not 0 < sum(shares.values()) < math.inf:
        raise InputError(f"the shares add up to {sum(shares.values()):g}: give at least one kind a share above 0")


@dataclass(frozen=True)
class _Draft:
    turns: Sequence[Turn]
    rules: Sequence[Preference] = ()


def synthesise(
    wishes: Sequence[Wish],
    exchanges: Sequence[Exchange],
    distractors: Sequence[Window],
    count: int,
    seed: int = 0,
    shares: dict[Kind, float] | None = None,
) -> Iterator[LabelledWindow]:
    """Yield ``count`` windows: the first tag is the kind; ``conversation`` is the wish.

    Of several wishes it is the first; a split parts wishes by it, and trains on all that are among several.

    Args:
        wishes: the bank.
        exchanges: asked, answered and reacted to.
        distractors: dialogues that carry no wish; those with a word that often goes with one are not used.
        count: number of windows.
        seed: with the inputs, the only source of chance; a longer run begins with a shorter one. Where a
            window is made of one wording (alone, task, earlier), one look-alike or one reaction, none comes a second
            time before every other one has come.
        shares: how much of each kind; need not add up to 1.

    Raises:
        InputError: an input is empty, no distractor is plain or none holds an answer, or no kind can be
            drawn by the shares.
    """
    weights = SHARES if shares is None else shares
    check_shares(weights)
    writer = _Writer(wishes, exchanges, [window for window in distractors if is_plain(window)], seed)
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        kind = rng.choices(list(weights), list(weights.values()))[0]
        yield writer.write(kind, number, rng)


class _Writer:
    """Sets wishes into dialogues."""

    def __init__(
        self, wishes: Sequence[Wish], exchanges: Sequence[Exchange], distractors: Sequence[Window], seed: int
    ) -> None:
        self._wishes, self._exchanges, self._distractors = wishes, exchanges, distractors
        self._answered = [window for window in distractors if _exchanges(window.turns)]
        for name, items in (("wishes", wishes), ("reactions", exchanges), ("distractors", self._answered)):
            if not items:
                raise InputError(f"there are no {name}: synthesis needs some (distractors with an answered user turn)")
        said = [wish.model_copy(update={"said": (said,)}) for wish in wishes for said in wish.said]
        alike = [wish.model_copy(update={"look_alikes": (text,)}) for wish in wishes for text in wish.look_alikes]
        reacted = [each.model_copy(update={"reactions": (r,)}) for each in exchanges for r in each.reactions]
        self._one_wording = _deal(said, f"{seed}/said")
        self._one_look_alike = _deal(alike, f"{seed}/look-alikes")
        self._any_wish = _deal(wishes, f"{seed}/wishes")
        self._one_reaction = _deal(reacted, f"{seed}/reactions")
        self._makers: dict[Kind, Callable[[Wish, Window, random.Random], _Draft]] = {
            "alone": self._alone,
            "task": self._task,
            "earlier": self._earlier,
            "statement": self._statement,
            "several": self._several,
            "opposite": self._opposite,
            "replaced": self._replaced,
            "retracted": self._retracted,
            "third-party": self._third_party,
            "quoted": self._quoted,
            "look-alike": self._look_alike,
            "none": lambda wish, distractor, rng: _Draft(distractor.turns),
        }

    def write(self, kind: Kind, number: int, rng: random.Random) -> LabelledWindow:
        distractor = rng.choice(self._answered)
        if kind == "reaction":
            exchange = next(self._one_reaction)
            draft, conversation, domain = self._reaction(exchange, rng), exchange.id, exchange.domain
        else:
            wish = next(
                self._one_wording
                if kind in ("alone", "task", "earlier")
                else self._one_look_alike
                if kind == "look-alike"
                else self._any_wish
            )
            draft, conversation, domain = self._makers[kind](wish, distractor, rng), wish.id, wish.domain
        turns = tuple(draft.turns[-MAX_TURNS:])
        return LabelledWindow(
            id=f"synthesis/{kind}/{number}",
            turns=turns,
            source="synthesis",
            conversation=distractor.id if kind == "none" else conversation,
            turn=len(turns) - 1,
            licence="Apache-2.0" if kind == "reaction" else distractor.licence,
            preferences=tuple(rule for rule in draft.rules if rule.confidence > REQUIRED_ABOVE),
            optional=tuple(rule for rule in draft.rules if rule.confidence <= REQUIRED_ABOVE),
            tags=(kind, domain),
            labeller="synthesis",
        )

    def _alone(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        said = rng.choice(wish.said)
        return _Draft([*_context(said, distractor, rng), _user(said.text)], [wish.rule(said.confidence)])

    def _task(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        said = rng.choice(wish.said)
        text = _join(said.text, _short_task(rng.choice(self._distractors)), rng)
        return _Draft([*_context(said, distractor, rng), _user(text)], [wish.rule(said.confidence)])

    def _earlier(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        said = rng.choice(wish.said)
        turns = list(distractor.turns[-MAX_TURNS + 1 :])
        reacts = said.kind in ("correction", "praise")
        places = [
            i
            for i, turn in enumerate(turns[:-1])
            if turn.role == "user" and (not reacts or (i > 0 and turns[i - 1].role == "assistant"))
        ]
        if not places:
            return self._task(wish, distractor, rng)
        place = places[-1] if reacts else rng.choice(places)
        turns[place] = _user(_join(said.text, turns[place].content, rng))
        return _Draft(turns, [wish.rule(said.confidence)])

    def _statement(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        rule = wish.rule(rng.choice((0.9, 0.95, 0.95)))
        text = phrases.state(rule, rng)
        if rng.random() < 0.7:
            text = _join(text, _short_task(rng.choice(self._distractors)), rng)
        before = _first_exchange(distractor) if rng.random() < 0.4 else ()
        return _Draft([*before, _user(text)], [rule])

    def _several(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        others = rng.sample(self._wishes, min(rng.choice((1, 1, 2)), len(self._wishes)))
        chosen = [wish, *(other for other in others if other.id != wish.id)]
        parts, rules = [], []
        for each in chosen:
            standing = [said for said in each.said if said.kind in ("explicit", "fact")]
            said = rng.choice(standing or each.said)
            if standing and rng.random() < 0.6:
                parts.append(said.text)
                rules.append(each.rule(said.confidence))
            else:
                rules.append(each.rule(0.95))
                parts.append(phrases.state(rules[-1], rng))
        if rng.random() < 0.6:
            parts.insert(rng.randrange(len(parts) + 1), _short_task(rng.choice(self._distractors)))
        if rng.random() < 0.3 and len(parts) > 1:  # over two messages
            _, answer = _first_exchange(distractor)
            return _Draft([_user(_paragraphs(parts[:1], rng)), answer, _user(_paragraphs(parts[1:], rng))], rules)
        return _Draft([_user(_paragraphs(parts, rng))], rules)

    def _opposite(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        text, rule = wish.opposite.text, _contrary(wish)
        if rng.random() < 0.6:
            text = _join(text, _short_task(rng.choice(self._distractors)), rng)
        return _Draft([*(_first_exchange(distractor) if rng.random() < 0.3 else ()), _user(text)], [rule])

    def _replaced(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        first, answer = self._opened(wish, distractor, rng)
        return _Draft([first, answer, _user(f"{_second_thought(rng)}{wish.opposite.text}")], [_contrary(wish)])

    def _retracted(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        first, answer = self._opened(wish, distractor, rng)
        text = rng.choice(phrases.TAKEN_BACK)
        if rng.random() < 0.4:
            text = f"{_stopped(text)} {_short_task(rng.choice(self._distractors))}"
        return _Draft([first, answer, _user(text)])

    def _third_party(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        return self._framed(phrases.THIRD_PARTY, wish, distractor, rng)

    def _quoted(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        return self._framed(phrases.DOCUMENTS, wish, distractor, rng)

    def _look_alike(self, wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        before = _first_exchange(distractor) if rng.random() < 0.4 else ()
        return _Draft([*before, _user(rng.choice(wish.look_alikes))])

    def _reaction(self, exchange: Exchange, rng: random.Random) -> _Draft:
        reaction = rng.choice(exchange.reactions)
        turns = [_user(exchange.ask), Turn(role="assistant", content=exchange.answer), _user(reaction.text)]
        return _Draft(turns, reaction.preferences)

    def _framed(self, frames: Sequence[str], wish: Wish, distractor: Window, rng: random.Random) -> _Draft:
        wording = rng.choice([*(said.text for said in wish.said), phrases.state(wish.rule(0.9), rng)])
        before = _first_exchange(distractor) if rng.random() < 0.3 else ()
        return _Draft([*before, _user(rng.choice(frames).replace("{}", wording))])

    def _opened(self, wish: Wish, distractor: Window, rng: random.Random) -> tuple[Turn, Turn]:
        """Return a first message with the wish in it, and an answer."""
        standing = [said.text for said in wish.said if said.kind in ("explicit", "fact", "hint")]
        wording = rng.choice([*standing, phrases.state(wish.rule(0.95), rng)])
        task, answer = _first_exchange(distractor)
        return _user(_join(wording, task.content, rng)), answer


def _deal(items: Sequence[Entry], seed: str) -> Iterator[Entry]:
    """Deal the items in a shuffled order, then all of them again in another, without end."""
    for lap in itertools.count():
        yield from random.Random(f"{seed}/{lap}").sample(items, len(items))


def _user(text: str) -> Turn:
    return Turn(role="user", content=text)


def _contrary(wish: Wish) -> Preference:
    return Preference(condition=wish.condition, action=wish.opposite.action, confidence=wish.opposite.confidence)


def _context(said: Said, distractor: Window, rng: random.Random) -> Sequence[Turn]:
    """Return the exchange before a message; a correction or praise needs one, other wordings seldom have one."""
    needed = said.kind in ("correction", "praise")
    if not needed and rng.random() < 0.6:
        return ()
    start = rng.choice(_exchanges(distractor.turns))
    return distractor.turns[start : start + 2]


def _exchanges(turns: Sequence[Turn]) -> list[int]:
    """Return where user turns are that are answered by the next one."""
    return [
        i
        for i, (turn, after) in enumerate(itertools.pairwise(turns))
        if (turn.role, after.role) == ("user", "assistant")
    ]


def _first_exchange(window: Window) -> Sequence[Turn]:
    start = _exchanges(window.turns)[0]
    return window.turns[start : start + 2]


def _short_task(window: Window) -> str:
    """Return the first user turn of a dialogue, its beginning if it is long."""
    text = next(turn.content for turn in window.turns if turn.role == "user")
    return text if len(text) <= 600 else text[:600].rsplit(" ", 1)[0]


def _join(wish: str, task: str, rng: random.Random) -> str:
    """Set a wish before, after or into the text of a task."""
    gap = rng.choice((" ", " ", "\n", "\n\n"))
    place = rng.choice(("before", "after", "inside"))
    sentences = re.split(r"(?<=[.!?])\s+(?=\S)", task)
    if place == "inside" and len(sentences) > 1 and "\n" not in task:
        cut = rng.randrange(1, len(sentences))
        return " ".join([*sentences[:cut], _stopped(wish), *sentences[cut:]])
    return f"{_stopped(wish)}{gap}{task}" if place == "before" else f"{_stopped(task)}{gap}{wish}"


def _paragraphs(parts: Sequence[str], rng: random.Random) -> str:
    gap = rng.choice((" ", " ", "\n", "\n- "))
    return ("- " if gap == "\n- " else "") + gap.join(part if "\n" in gap else _stopped(part) for part in parts)


def _stopped(text: str) -> str:
    text = text.rstrip()
    return text if text[-1:] in ".!?:;\"'`)…。！？" or not text else f"{text}."


def _second_thought(rng: random.Random) -> str:
    return rng.choice(
        ("", "", "Actually no. ", "hmm, changed my mind: ", "Wait. ", "Correction. ", "No, other way round: ")
    )
