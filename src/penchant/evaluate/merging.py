"""What a newer rule is to an older one: how right the reader, the whole of merging, and simpler guesses are."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from penchant.data.entries import load_records
from penchant.data.pairs import RELATIONS, Profile, Rule, RulePair
from penchant.errors import InputError, first_fault
from penchant.evaluate.merging_losses import Losses, count_losses
from penchant.evaluate.metrics import Estimate, Ints, confusion, divide, estimate
from penchant.evaluate.pages import Source
from penchant.evaluate.readers import Embed, Floats, Read, read_all
from penchant.memory.merge import LEAST_COSINE, Relate, merge, new_card
from penchant.types import Preference, plain_words
from penchant.types import Source as Origin

SCHEMA = "penchant.merging-report/3"
"""Names what ``report.json`` holds; the number rises when a field changes its meaning or goes."""

THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99)
"""Least probabilities that are compared."""

LIKE = 0.8
"""Least cosine that a simple system takes for the same wish."""

PIPELINE = "merge()"
"""The name of the method that is the product's own."""

SAME, CONTRADICTS, UNRELATED = range(len(RELATIONS))

_OUTCOMES = {"strengthened": SAME, "known": SAME, "replaced": CONTRADICTS, "added": UNRELATED}
_TIME = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class RelationScores:
    """How well one relation is told: ``said`` of so many pairs, true of ``gold``."""

    said: int
    gold: int
    precision: Estimate
    recall: Estimate


@dataclass(frozen=True)
class Method:
    """A way to tell relations: the share of pairs it gets right, and how well it tells the two that count.

    ``matter``: whether two rules are about the same matter, the same wish or its contrary.
    """

    name: str
    accuracy: Estimate
    matter: RelationScores
    same: RelationScores
    contradicts: RelationScores


@dataclass(frozen=True)
class Operating:
    """The reader, where "the same wish or a contrary one" counts from a probability on."""

    least: float
    matter: RelationScores
    same: RelationScores
    contradicts: RelationScores


@dataclass(frozen=True)
class JudgedPair:
    """A pair, the relation it has, and the one that merging acts on."""

    id: str
    old: str
    new: str
    gold: str
    said: str
    likeliest: str
    chances: tuple[float, float, float]
    cosine: float


@dataclass(frozen=True)
class MergingReport:
    """Everything; rows of the confusion matrices are gold, columns are said, in the order of ``RELATIONS``.

    ``unseen`` counts the pairs of each relation that are too unlike, by cosine, for the reader to be asked.
    ``losses``: of users whose rules all hold; None: no users were given.
    """

    schema: str
    source: Source
    threshold: float
    pairs: int
    methods: tuple[Method, ...]
    operating: tuple[Operating, ...]
    confusion: tuple[tuple[int, ...], ...]
    confusion_likeliest: tuple[tuple[int, ...], ...]
    unseen: tuple[int, int, int]
    judged: tuple[JudgedPair, ...]
    losses: Losses | None


REPORT = TypeAdapter(MergingReport)


def load_pairs(path: Path) -> list[RulePair]:
    """Read pairs of rules (data/merge).

    Raises:
        InputError: the file is missing or empty, or a line is no pair of rules that a memory could hold.
    """
    pairs = []
    for place, pair in load_records([path], RulePair):
        for name, rule in (("old", pair.old), ("new", pair.new)):
            try:
                _preference(rule)
            except ValidationError as error:
                raise InputError(f"{place}: {name}.{first_fault(error, 'rule')}") from error
        pairs.append(pair)
    return pairs


def build_report(
    source: Source,
    pairs: Sequence[RulePair],
    read: Read,
    embed: Embed,
    threshold: float,
    profiles: Sequence[tuple[str, Profile]] = (),
) -> MergingReport:
    """Measure the reader and everything around it.

    Args:
        source: where all this comes from.
        pairs: with the relation they have.
        read: logits of ``RELATIONS`` for pairs of an older and a newer note.
        embed: gives notes the vectors that the memory keeps.
        threshold: least probability of the same matter that counts, of the reader alone; merging has its own.
        profiles: users whose rules all hold, and the place where each is from.
    """
    notes = [(pair.old.note, pair.new.note) for pair in pairs]
    chances = read_all(read, notes, len(RELATIONS), "relations")
    old, new = embed([first for first, _ in notes]), embed([second for _, second in notes])
    cosines = np.einsum("ij,ij->i", old, new).astype(np.float64)
    gold = np.array([RELATIONS.index(pair.relation) for pair in pairs])
    said = merged(pairs, old, new, dict(zip(notes, chances, strict=True)))
    guesses = {
        f"reader, probability ≥ {threshold:g}": above(chances, threshold),
        PIPELINE: said,
        "the same words": merged(pairs, old, new, None),
        f"cosine ≥ {LIKE:g} is the same": np.where(cosines >= LIKE, SAME, UNRELATED),
        "equal conditions or not": shortcut(pairs, [_condition(p.old) == _condition(p.new) for p in pairs]),
        "lengths of the two rules": shortcut(pairs, _lengths(notes)),
        "always the commonest": shortcut(pairs, [0] * len(pairs)),
    }
    least = sorted({*THRESHOLDS, threshold})
    unseen = [int(((gold == relation) & (cosines < LEAST_COSINE)).sum()) for relation in range(len(RELATIONS))]
    return MergingReport(
        SCHEMA,
        source,
        threshold,
        len(pairs),
        tuple(score(name, gold, guess) for name, guess in guesses.items()),
        tuple(_operating(at, gold, above(chances, at)) for at in least),
        confusion(gold, said, len(RELATIONS)),
        confusion(gold, chances.argmax(1), len(RELATIONS)),
        (unseen[SAME], unseen[CONTRADICTS], unseen[UNRELATED]),
        tuple(_judged(pairs, said, chances, cosines)),
        count_losses(profiles, read, embed, least) if profiles else None,
    )


def above(chances: Floats, threshold: float) -> Ints:
    """Return the likelier of "same" and "contradicts" where the probability of either is at least ``threshold``."""
    return np.where(1 - chances[:, UNRELATED] >= threshold, chances[:, :UNRELATED].argmax(1), UNRELATED)


def merged(
    pairs: Sequence[RulePair],
    old: NDArray[np.float32],
    new: NDArray[np.float32],
    chances: dict[tuple[str, str], Floats] | None,
) -> Ints:
    """Return what merging makes of each pair: the older rule is the user's only card, the newer one comes in.

    Args:
        pairs: of rules.
        old: vectors of the older notes.
        new: vectors of the newer notes.
        chances: of the relations of two notes; None: there is no reader.
    """
    relate = None if chances is None else _relate(chances)
    said = []
    for pair, before, after in zip(pairs, old, new, strict=True):
        card = new_card("user", _preference(pair.old), Origin(session="older", time=_TIME))
        origin = Origin(session="newer", time=_TIME)
        found = merge("user", _preference(pair.new), origin, after, [card], before[None], relate)
        said.append(_OUTCOMES[found.outcome])
    return np.array(said)


def shortcut(pairs: Sequence[RulePair], features: Sequence[Hashable]) -> Ints:
    """Return the relation that a feature alone suggests: the commonest one of that feature in the other half."""
    half = [zlib.crc32(pair.id.encode()) % 2 for pair in pairs]
    counts: dict[tuple[int, Hashable], Counter[str]] = {}
    for side, feature, pair in zip(half, features, pairs, strict=True):
        for key in ((side, feature), (side, None)):  # None: whatever the feature
            counts.setdefault(key, Counter())[pair.relation] += 1
    said = []
    for side, feature in zip(half, features, strict=True):
        known = counts.get((1 - side, feature)) or counts.get((1 - side, None)) or Counter(unrelated=1)
        said.append(max(range(len(RELATIONS)), key=lambda relation: (known[RELATIONS[relation]], relation)))
    return np.array(said)


def score(name: str, gold: Ints, said: Ints) -> Method:
    """Score a method."""
    table = np.array([gold == said, np.ones(len(gold))], float).T
    (accuracy,) = estimate(table, lambda sums: divide(sums[..., :1], sums[..., 1:]))
    return Method(
        name,
        accuracy,
        score_relation(gold, said, SAME, CONTRADICTS),
        score_relation(gold, said, SAME),
        score_relation(gold, said, CONTRADICTS),
    )


def score_relation(gold: Ints, said: Ints, *relations: int) -> RelationScores:
    """Score how well it is told that a pair has one of some relations."""
    true, told = np.isin(gold, relations), np.isin(said, relations)
    table = np.array([true & told, told, true], float).T
    precision, recall = estimate(table, lambda sums: divide(sums[..., [0, 0]], sums[..., [1, 2]]))
    return RelationScores(int(told.sum()), int(true.sum()), precision, recall)


def _judged(pairs: Sequence[RulePair], said: Ints, chances: Floats, cosines: Floats) -> Iterator[JudgedPair]:
    for pair, done, row, cosine in zip(pairs, said, chances, cosines, strict=True):
        yield JudgedPair(
            id=pair.id,
            old=pair.old.note,
            new=pair.new.note,
            gold=pair.relation,
            said=RELATIONS[done],
            likeliest=RELATIONS[int(row.argmax())],
            chances=(float(row[SAME]), float(row[CONTRADICTS]), float(row[UNRELATED])),
            cosine=float(cosine),
        )


def _operating(least: float, gold: Ints, said: Ints) -> Operating:
    return Operating(
        least,
        score_relation(gold, said, SAME, CONTRADICTS),
        score_relation(gold, said, SAME),
        score_relation(gold, said, CONTRADICTS),
    )


def _relate(chances: dict[tuple[str, str], Floats]) -> Relate:
    def relate(new: Preference, old: Sequence[Preference]) -> Floats:
        return np.array([chances[_note(rule), _note(new)] for rule in old])

    return relate


def _note(rule: Preference) -> str:
    return Rule(condition=rule.condition, action=rule.action).note


def _preference(rule: Rule) -> Preference:
    return Preference(condition=rule.condition, action=rule.action, confidence=1.0)


def _condition(rule: Rule) -> str:
    return plain_words(_preference(rule))[0]


def _lengths(notes: Sequence[tuple[str, str]]) -> list[tuple[int, ...]]:
    """Return for both rules in which third of all rules their number of words falls."""
    words = np.array([[len(text.split()) for text in pair] for pair in notes])
    borders = np.quantile(words, (1 / 3, 2 / 3), method="lower")
    return [tuple(row) for row in np.searchsorted(borders, words).tolist()]
