"""How well notes are ranked for a query, and how well a system says that nothing applies.

Notes of the same score are in no order: every measure is the mean over all of their orders.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import TypeAdapter
from tqdm import tqdm

from penchant.errors import ModelError
from penchant.evaluate.metrics import Estimate, divide, estimate
from penchant.evaluate.pages import Source
from penchant.evaluate.readers import Floats
from penchant.evaluate.retrieval_sets import Query, QuerySet, User
from penchant.evaluate.retrieval_systems import RERANKED, Score

SCHEMA = "penchant.retrieval-report/1"
"""Names what ``report.json`` holds; the number rises when a field changes its meaning or goes."""

SHOWN = 5
"""Notes of a ranking that are kept."""

NOTES = 3
"""Most notes of a prompt, as the loop has it."""


@dataclass(frozen=True)
class Measures:
    """How well one query's notes are ranked."""

    recall_at_3: float
    recall_at_5: float
    ndcg_at_5: float
    mrr: float


MEASURES = ("recall_at_3", "recall_at_5", "ndcg_at_5", "mrr")


@dataclass(frozen=True)
class Ranking:
    """What a system makes of a query: its best notes by place, their scores, and how good that is.

    ``measures`` is None where no note applies.
    """

    user: str
    query: str
    relevant: tuple[int, ...]
    best: tuple[int, ...]
    scores: tuple[float, ...]
    measures: Measures | None

    @property
    def top(self) -> float:
        """The best score."""
        return self.scores[0]


@dataclass(frozen=True)
class Silence:
    """How well a floor under the best score tells the queries to which nothing applies.

    Users are parted into two halves; each half is measured with the floor of the best balanced accuracy on the other.

    Args:
        floors: for each half, the floor that was chosen on the other; None: the other lacks one kind of query.
        overall: the floor chosen on all users, for use.
        said: queries of which the system says that nothing applies.
        none: queries to which nothing applies.
        right: queries that are both.
        precision: right of said.
        recall: right of none.
        balanced: mean of this recall and of that of the queries to which something applies.
    """

    floors: tuple[float | None, float | None]
    overall: float | None
    said: int
    none: int
    right: int
    precision: Estimate
    recall: Estimate
    balanced: Estimate


FLOORS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5)
"""Least probabilities of a note in a prompt that are compared."""


@dataclass(frozen=True)
class Prompts:
    """What prompts would hold: the best ``NOTES`` notes whose probability is at least ``floor``.

    Args:
        floor: a probability.
        recall: of the notes that apply, the share that is shown.
        precision: of the notes that are shown, the share that applies.
        silent: of the queries to which no note applies, the share that is shown none.
    """

    floor: float
    recall: Estimate
    precision: Estimate
    silent: Estimate


@dataclass(frozen=True)
class SystemResult:
    """A system on a set; the measures are means over the queries with a note that applies.

    ``gain`` is nDCG@5 minus that of the set's first system; ``prompts`` is there for the system whose scores are
    logarithms of probabilities.
    """

    name: str
    recall_at_3: Estimate
    recall_at_5: Estimate
    ndcg_at_5: Estimate
    mrr: Estimate
    gain: Estimate
    silence: Silence
    prompts: tuple[Prompts, ...]
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True)
class SetResult:
    """The systems side by side on a set."""

    queries: QuerySet
    systems: tuple[SystemResult, ...]


@dataclass(frozen=True)
class RetrievalReport:
    """All sets."""

    schema: str
    source: Source
    sets: tuple[SetResult, ...]


REPORT = TypeAdapter(RetrievalReport)


def build_report(source: Source, sets: Sequence[QuerySet], systems: Mapping[str, Score]) -> RetrievalReport:
    """Measure every system on every set.

    Raises:
        ModelError: a system does not give each note a score.
    """
    return RetrievalReport(SCHEMA, source, tuple(compare(each, systems) for each in sets))


def compare(queries: QuerySet, systems: Mapping[str, Score]) -> SetResult:
    """Measure systems on a set, the first of them being what the others are compared with."""
    rankings = {name: rank_all(queries, name, score) for name, score in systems.items()}
    first = next(iter(rankings.values()))
    return SetResult(queries, tuple(_assess(queries, name, mine, first) for name, mine in rankings.items()))


def rank_all(queries: QuerySet, name: str, score: Score) -> tuple[Ranking, ...]:
    """Ask a system about every query of every user, with a progress bar."""
    asked = [(user, query) for user in queries.users for query in user.queries]
    bar = tqdm(asked, desc=f"{queries.name}, {name}", unit="query", disable=None)
    return tuple(_rank(user, query, name, score) for user, query in bar)


def measure(scores: Floats, relevant: Sequence[int]) -> Measures:
    """Measure a ranking by scores, against the places of the notes that apply, of which there is at least one."""
    hits = np.zeros(len(scores))
    hits[list(relevant)] = 1
    _, groups, sizes = np.unique(-scores, return_inverse=True, return_counts=True)
    found = np.bincount(groups, hits)  # notes that apply, for each score from the best on
    chances = np.repeat(found / sizes, sizes)  # of a note that applies, at each rank
    discounts = 1 / np.log2(np.arange(2, SHOWN + 2))
    gain = float(chances[:SHOWN] @ discounts[: len(chances)])
    ideal = float(discounts[: len(relevant)].sum())
    recall_at_3, recall_at_5 = (float(chances[:k].sum()) / len(relevant) for k in (3, 5))
    return Measures(
        recall_at_3, recall_at_5, gain / ideal, _reciprocal_rank(found.astype(int).tolist(), sizes.tolist())
    )


def choose_floor(tops: Floats, none: Floats) -> float | None:
    """Return the floor under the best score whose silence is right most often, by balanced accuracy.

    Args:
        tops: the best score of each query.
        none: 1 where nothing applies, else 0.

    Returns:
        The lowest such floor; None: there are not both kinds of query.
    """
    quiet, loud = np.sort(tops[none > 0]), np.sort(tops[none == 0])
    if not len(quiet) or not len(loud):
        return None
    values = np.unique(tops)
    floors = np.array([values[0], *((values[1:] + values[:-1]) / 2), np.nextafter(values[-1], np.inf)])
    silent = np.searchsorted(quiet, floors) / len(quiet)
    missed = np.searchsorted(loud, floors) / len(loud)
    return float(floors[np.argmax(silent - missed)])


def halves(users: Sequence[User]) -> dict[str, int]:
    """Part users into two halves that do not depend on the order of the file."""
    order = sorted((user.id for user in users), key=lambda name: (zlib.crc32(name.encode()), name))
    return {name: place % 2 for place, name in enumerate(order)}


def tell_silence(rankings: Sequence[Ranking], half: Mapping[str, int]) -> Silence:
    """Measure how well a system says that nothing applies."""
    tops = np.array([ranking.top for ranking in rankings])
    none = np.array([float(not ranking.relevant) for ranking in rankings])
    side = np.array([half[ranking.user] for ranking in rankings])
    floors = (choose_floor(tops[side == 1], none[side == 1]), choose_floor(tops[side == 0], none[side == 0]))
    floor = np.array([np.nan if each is None else each for each in floors])[side]
    measured = ~np.isnan(floor)
    said = (tops < floor).astype(float)  # nothing is less than NaN
    sums = np.array([said * none, said, none * measured, (1 - said) * (1 - none) * measured, (1 - none) * measured]).T
    table = _by_user(rankings, sums)

    def rates(totals: Floats) -> Floats:
        right, quiet, empty, answered, full = np.moveaxis(totals, -1, 0)
        recall = divide(right, empty)
        return np.stack([divide(right, quiet), recall, (recall + divide(answered, full)) / 2], axis=-1)

    right, quiet, empty = sums[:, :3].sum(axis=0).astype(int).tolist()
    return Silence(floors, choose_floor(tops, none), quiet, empty, right, *estimate(table, rates))


def fill_prompts(rankings: Sequence[Ranking], floor: float) -> Prompts:
    """Measure what prompts would hold with a floor under the notes' probabilities."""
    rows = []
    for ranking in rankings:
        best = zip(ranking.best[:NOTES], ranking.scores, strict=False)
        shown = [place for place, score in best if math.exp(score) >= floor]
        right, none = len(set(shown) & set(ranking.relevant)), not ranking.relevant
        rows.append([right, len(ranking.relevant), right, len(shown), none and not shown, none])
    table = _by_user(rankings, np.array(rows, float))
    return Prompts(floor, *estimate(table, lambda sums: divide(sums[..., ::2], sums[..., 1::2])))


def _rank(user: User, query: Query, name: str, score: Score) -> Ranking:
    scores = score(query.text, user.notes)
    if scores.shape != (len(user.notes),) or np.isnan(scores).any():
        raise ModelError(f"{name} gives no score to some note of {user.id} for query {query.id}")
    best = np.argsort(-scores, kind="stable")[:SHOWN]
    measures = measure(scores, query.relevant) if query.relevant else None
    return Ranking(user.id, query.id, query.relevant, tuple(best.tolist()), tuple(scores[best].tolist()), measures)


def _assess(queries: QuerySet, name: str, mine: Sequence[Ranking], first: Sequence[Ranking]) -> SystemResult:
    own, other = (np.array([_row(ranking) for ranking in rankings]) for rankings in (mine, first))
    recall_at_3, recall_at_5, ndcg_at_5, mrr = estimate(_by_user(mine, own), _means)
    place = MEASURES.index("ndcg_at_5")
    both = np.array([own[:, place] - other[:, place], own[:, -1]]).T
    (gain,) = estimate(_by_user(mine, both), _means)
    silence = tell_silence(mine, halves(queries.users))
    prompts = tuple(fill_prompts(mine, floor) for floor in FLOORS) if name == RERANKED else ()
    return SystemResult(name, recall_at_3, recall_at_5, ndcg_at_5, mrr, gain, silence, prompts, tuple(mine))


def _means(sums: Floats) -> Floats:
    """Divide all sums by the last one."""
    return divide(sums[..., :-1], np.repeat(sums[..., -1:], sums.shape[-1] - 1, axis=-1))


def _row(ranking: Ranking) -> list[float]:
    """Return what a query adds to the sum of each measure, and to the number of queries."""
    found = ranking.measures
    return [*(getattr(found, name) for name in MEASURES), 1.0] if found else [0.0] * (len(MEASURES) + 1)


def _by_user(rankings: Sequence[Ranking], rows: Floats) -> Floats:
    """Add up the rows of each user, so that a resample is one of users."""
    _, users = np.unique([ranking.user for ranking in rankings], return_inverse=True)
    table = np.zeros((users.max() + 1, rows.shape[1]))
    np.add.at(table, users, rows)
    return table


def _reciprocal_rank(found: Sequence[int], sizes: Sequence[int]) -> float:
    """Return the mean of 1 / rank of the first note that applies, over the orders of the notes of one score.

    Args:
        found: notes that apply, for each score from the best on.
        sizes: notes of that score.
    """
    group = next(place for place, count in enumerate(found) if count)
    ahead, size, count = sum(sizes[:group]), sizes[group], found[group]
    ways = math.comb(size, count)
    return sum(math.comb(size - rank, count - 1) / ways / (ahead + rank) for rank in range(1, size - count + 2))
