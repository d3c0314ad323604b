"""How well a reward is read from a user's reaction: the paper's keywords, the pair reader, and the commonest sign."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter
from scipy.stats import spearmanr

from penchant.data.entries import load_records
from penchant.data.pairs import LABELS, RatedExchange, exchange_text, is_apart
from penchant.errors import InputError
from penchant.evaluate.metrics import LEAST_WINDOWS, RESAMPLES, SEED, Estimate, Ints, confusion, divide, estimate
from penchant.evaluate.pages import Source
from penchant.evaluate.readers import Embed, Floats, Read, read_all
from penchant.learn.reward import Exchange, KeywordReward, ReaderReward, RewardModel

SCHEMA = "penchant.rewards-report/1"
"""Names what ``report.json`` holds; the number rises when a field changes its meaning or goes."""

ZONE = 0.05
"""A reward no further from 0 than this has no sign; an estimate too, unless another dead zone is chosen."""

SIGNS = ("negative", "none", "positive")

ALL = "all"
"""The name of the part that is no part."""

CONSTANT = "always the commonest sign"


@dataclass(frozen=True)
class Case:
    """A reaction to an answer, the reward and the label that it got, and what models are shown."""

    exchange: str
    text: str
    label: str
    reward: float
    shown: Exchange


@dataclass(frozen=True)
class SignScores:
    """An estimator on some reactions.

    ``accuracy`` is the share of signs that are right, ``balanced`` its mean over the three signs, and ``spearman`` the
    rank correlation of estimates and rewards, which a constant has none of.
    """

    accuracy: Estimate
    balanced: Estimate
    spearman: Estimate


@dataclass(frozen=True)
class Part:
    """Some of the reactions, with an estimator's scores on them."""

    name: str
    reactions: int
    scores: SignScores


@dataclass(frozen=True)
class Estimator:
    """A way to estimate rewards; rows of the confusion matrix are the true signs, columns the estimated ones."""

    name: str
    dead_zone: float
    parts: tuple[Part, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class LabelScores:
    """How well the reader tells labels: all, the commonest for comparison, and from what to what (``LABELS``)."""

    accuracy: Estimate
    commonest: str
    commonest_accuracy: Estimate
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class RatedCase:
    """A reaction with its reward and label, and what was made of it."""

    exchange: str
    text: str
    reward: float
    label: str
    label_read: str
    estimates: Mapping[str, float]


@dataclass(frozen=True)
class RewardsReport:
    """Everything; ``chosen_on`` counts the reactions of the other exchanges, on which dead zones are chosen."""

    schema: str
    source: Source
    exchanges: int
    reactions: int
    apart: bool
    chosen_on: int
    estimators: tuple[Estimator, ...]
    labels: LabelScores
    cases: tuple[RatedCase, ...]


REPORT = TypeAdapter(RewardsReport)


def load_exchanges(paths: Sequence[Path], apart: bool) -> tuple[list[RatedExchange], list[RatedExchange]]:
    """Read rated exchanges (data/labelled/reactions*.jsonl): those to measure on, and the others.

    Args:
        paths: JSON Lines.
        apart: measure on those that the training of the pair reader keeps apart; else on all.

    Raises:
        InputError: a file is missing or empty, or a line is no rated exchange; or none is kept apart.
    """
    every = [exchange for _, exchange in load_records(paths, RatedExchange)]
    if not apart:
        return every, []
    measured = [exchange for exchange in every if is_apart(exchange.id)]
    if not measured:
        raise InputError(f"none of the {len(every)} exchanges is kept apart: give --all")
    return measured, [exchange for exchange in every if not is_apart(exchange.id)]


def build_report(
    source: Source,
    measured: Sequence[RatedExchange],
    others: Sequence[RatedExchange],
    read: Read,
    embed: Embed,
    dead_zone: float | None = None,
) -> RewardsReport:
    """Estimate all rewards and measure the estimates.

    Args:
        source: where all this comes from.
        measured: the exchanges to measure on.
        others: those on which the dead zones and the commonest sign are chosen; none: on the measured ones.
        read: logits of ``LABELS`` for pairs of an exchange and a reaction.
        embed: gives the two messages of the user vectors, whose cosine the keywords' reward depends on.
        dead_zone: estimates no further from 0 have no sign; None: chosen on the others, or ``ZONE`` without them.
    """
    cases, rest = collect(measured, embed), collect(others, embed)
    chances = _read(read, cases)
    found = estimates(cases, chances)
    zones = dict.fromkeys(found, ZONE if dead_zone is None else dead_zone)
    if rest and dead_zone is None:
        rewards = np.array([case.reward for case in rest])
        zones = {name: choose_zone(values, rewards) for name, values in estimates(rest, _read(read, rest)).items()}
    found[CONSTANT], zones[CONSTANT] = np.full(len(cases), commonest_sign(rest or cases) - 1.0), ZONE
    return RewardsReport(
        schema=SCHEMA,
        source=source,
        exchanges=len(measured),
        reactions=len(cases),
        apart=all(is_apart(exchange.id) for exchange in measured),
        chosen_on=len(rest),
        estimators=tuple(_assess(name, cases, values, zones[name]) for name, values in found.items()),
        labels=_score_labels(cases, chances, rest or cases),
        cases=tuple(_rated(cases, chances, found)),
    )


def collect(exchanges: Sequence[RatedExchange], embed: Embed) -> list[Case]:
    """Return all reactions of exchanges."""
    pairs = [(exchange, reaction) for exchange in exchanges for reaction in exchange.reactions]
    if not pairs:
        return []
    asked, said = embed([exchange.ask for exchange, _ in pairs]), embed([reaction.text for _, reaction in pairs])
    cosines = np.einsum("ij,ij->i", asked, said)
    return [
        Case(
            exchange.id,
            reaction.text,
            reaction.label,
            reaction.reward,
            Exchange(exchange.ask, exchange.answer, reaction.text, float(cosine)),
        )
        for (exchange, reaction), cosine in zip(pairs, cosines, strict=True)
    ]


def estimates(cases: Sequence[Case], chances: Floats) -> dict[str, Floats]:
    """Return the estimated rewards of reactions, whose labels have been read, by each estimator's name."""
    logits = dict(zip(map(_pair, cases), np.log(np.maximum(chances, 1e-30)), strict=True))
    models: tuple[RewardModel, ...] = (
        KeywordReward(),
        ReaderReward(lambda asked: np.array([logits[pair] for pair in asked])),
    )
    return {model.name: np.array([model.estimate(case.shown).value for case in cases]) for model in models}


def signs(values: Floats, zone: float) -> Ints:
    """Return 0, 1 or 2 for negative, no and positive sign; values no further from 0 than ``zone`` have none."""
    return np.where(np.abs(values) <= zone, 1, np.where(values < 0, 0, 2))


def choose_zone(values: Floats, rewards: Floats) -> float:
    """Return the dead zone with which the most signs of estimates are those of the rewards; of several, the least."""
    gold = signs(rewards, ZONE)
    sizes = np.unique(np.abs(values))
    zones = [0.0, *((sizes[1:] + sizes[:-1]) / 2).tolist(), float(sizes[-1])]
    best: float = max(zones, key=lambda zone: (int((signs(values, zone) == gold).sum()), -zone))
    return best


def commonest_sign(cases: Sequence[Case]) -> int:
    """Return the commonest sign of the rewards, as ``signs`` counts them."""
    return int(np.bincount(signs(np.array([case.reward for case in cases]), ZONE), minlength=len(SIGNS)).argmax())


def slices(cases: Sequence[Case]) -> dict[str, NDArray[np.bool_]]:
    """Return masks of parts that are not empty: all, by the letters of the reaction, and by its label."""
    shares = np.array([ascii_share(case.text) for case in cases])
    found = {
        ALL: np.ones(len(cases), bool),
        "only ASCII letters": shares == 1,
        "half of the letters or more ASCII": (shares < 1) & (shares >= 0.5),
        "fewer letters ASCII": shares < 0.5,
    }
    found |= {f"label: {label}": np.array([case.label == label for case in cases], bool) for label in LABELS}
    return {name: mask for name, mask in found.items() if mask.any()}


def ascii_share(text: str) -> float:
    """Return the share of ASCII among the letters of a text; 1 if it has none."""
    letters = [letter.isascii() for letter in text if letter.isalpha()]
    return sum(letters) / len(letters) if letters else 1.0


def score(exchanges: Sequence[str], rewards: Floats, values: Floats, zone: float) -> SignScores:
    """Score estimates against rewards, with intervals over the exchanges that they belong to."""
    gold, said = signs(rewards, ZONE), signs(values, zone)
    _, groups = np.unique(exchanges, return_inverse=True)
    table = np.zeros((groups.max() + 1, 2 * len(SIGNS)))
    np.add.at(table, (groups, gold), (gold == said).astype(float))
    np.add.at(table, (groups, gold + len(SIGNS)), 1)
    accuracy, balanced = estimate(table, _sign_rates)
    return SignScores(accuracy, balanced, _correlation(groups, rewards, values))


def _assess(name: str, cases: Sequence[Case], values: Floats, zone: float) -> Estimator:
    gold, exchanges = np.array([case.reward for case in cases]), np.array([case.exchange for case in cases])
    parts = tuple(
        Part(part, int(mask.sum()), score(exchanges[mask].tolist(), gold[mask], values[mask], zone))
        for part, mask in slices(cases).items()
    )
    return Estimator(name, zone, parts, confusion(signs(gold, ZONE), signs(values, zone), len(SIGNS)))


def _rated(cases: Sequence[Case], chances: Floats, found: Mapping[str, Floats]) -> Iterator[RatedCase]:
    for place, case in enumerate(cases):
        said = {name: float(values[place]) for name, values in found.items()}
        read = LABELS[int(chances[place].argmax())]
        yield RatedCase(case.exchange, case.text, case.reward, case.label, read, said)


def _sign_rates(sums: Floats) -> Floats:
    """Return the share of right signs, and its mean over the signs that occur."""
    right, count = sums[..., : len(SIGNS)], sums[..., len(SIGNS) :]
    recalls = divide(right, count)
    occurring = (count > 0).sum(-1).astype(float)
    return np.stack([divide(right.sum(-1), count.sum(-1)), divide(np.nansum(recalls, -1), occurring)], axis=-1)


def _correlation(groups: Ints, rewards: Floats, values: Floats) -> Estimate:
    """Return Spearman's rank correlation; its interval is over resamples of groups."""
    value = _spearman(rewards, values)
    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    if np.isnan(value) or len(members) < LEAST_WINDOWS:
        return Estimate(None if np.isnan(value) else value)
    rng = np.random.default_rng(SEED)
    samples = np.zeros(RESAMPLES)
    for place in range(RESAMPLES):
        drawn = np.concatenate([members[group] for group in rng.integers(0, len(members), len(members))])
        samples[place] = _spearman(rewards[drawn], values[drawn])
    defined = samples[~np.isnan(samples)]
    low, high = np.quantile(defined, (0.025, 0.975)) if len(defined) else (value, value)
    return Estimate(value, float(low), float(high))


def _spearman(first: Floats, second: Floats) -> float:
    if not np.ptp(first) or not np.ptp(second):
        return float("nan")  # a constant has no ranks
    return float(spearmanr(first, second).statistic)


def _score_labels(cases: Sequence[Case], chances: Floats, chosen_on: Sequence[Case]) -> LabelScores:
    gold = np.array([LABELS.index(case.label) for case in cases])
    said = chances.argmax(1)
    commonest = Counter(case.label for case in chosen_on).most_common(1)[0][0]
    _, groups = np.unique([case.exchange for case in cases], return_inverse=True)
    table = np.zeros((groups.max() + 1, 3))
    columns = np.array([gold == said, gold == LABELS.index(commonest), np.ones(len(gold))], float).T
    np.add.at(table, groups, columns)
    accuracy, other = estimate(table, lambda sums: divide(sums[..., :2], sums[..., [2, 2]]))
    return LabelScores(accuracy, commonest, other, confusion(gold, said, len(LABELS)))


def _read(read: Read, cases: Sequence[Case]) -> Floats:
    return read_all(read, [_pair(case) for case in cases], len(LABELS), "reactions")


def _pair(case: Case) -> tuple[str, str]:
    return exchange_text(case.shown.ask, case.shown.answer), case.text
