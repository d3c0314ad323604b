"""Query transformation, and dense search with and without a reranker."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.memory.merge import new_card
from penchant.retrieve.rerank import ReaderReranker, Weighing, log_sigmoid, weighing_for
from penchant.retrieve.search import TOP, Retriever
from penchant.retrieve.transform import task_type, variants
from penchant.types import Card
from tests.memory.conftest import WordEmbedder, rule, source


def cards(*actions: str) -> tuple[Card, ...]:
    return tuple(new_card("ann", rule(action, condition="general"), source(0)) for action in actions)


class Backwards:
    """Prefers short notes, whatever the query."""

    name = "backwards"

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str]]] = []

    def scores(self, query: str, notes: Sequence[str], cosines: object) -> np.ndarray:
        self.asked.append((query, list(notes)))
        return -np.array([float(len(note)) for note in notes])


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Solve this EQUATION", "math"),
        ("fix the bug in my script", "coding"),
        ("draft an email to my landlord", "writing"),
        ("why is the sky blue", "explanation"),
        ("prose about debugging proofreaders", None),  # keywords inside other words
        ("", None),
    ],
)
def test_the_type_of_a_task(query: str, expected: str | None) -> None:
    assert task_type(query) == expected
    second = [f"user preferences for {expected} tasks: {query}"] if expected else []
    assert variants(query) == [query, *second]


def test_the_best_variant_counts_and_the_reranker_sees_the_query_itself() -> None:
    embedder, reranker = WordEmbedder(), Backwards()
    mine = cards("prefer user preferences for coding tasks", "be brief", "fix nothing")
    vectors = embedder.embed([card.note for card in mine])
    plain = Retriever(embedder, transform=False).find("fix my code", mine, vectors)
    both = Retriever(embedder, reranker).find("fix my code", mine, vectors)
    texts = embedder.embed(["fix my code", "user preferences for coding tasks: fix my code"])
    expected = dict(zip(mine, (vectors @ texts.T).max(1).tolist(), strict=True))
    assert dict(zip(both.cards, both.similarities.tolist(), strict=True)) == pytest.approx(expected)
    assert both.cards[0] == mine[0] != plain.cards[0]
    assert reranker.asked == [("fix my code", [card.note for card in both.cards])]
    assert both.scores.tolist() == [-float(len(card.note)) for card in both.cards]
    assert plain.scores.tolist() == plain.similarities.tolist() == sorted(plain.similarities, reverse=True)
    assert np.array_equal(both.query, texts[0])


def test_the_search_is_exact_and_passes_on_the_nearest() -> None:
    embedder = WordEmbedder(dimensions=16)
    many = cards(*(f"do thing {number} of {number % 7} and {number % 11}" for number in range(300)))
    vectors = embedder.embed([card.note for card in many])
    found = Retriever(embedder, transform=False).find("thing 5 of 3", many, vectors)
    cosines = vectors @ embedder.embed(["thing 5 of 3"])[0]
    assert len(found.cards) == len(found.vectors) == TOP
    assert found.similarities == pytest.approx(np.sort(cosines)[::-1][:TOP])
    assert np.array_equal(found.vectors, vectors[[many.index(card) for card in found.cards]])


def test_no_cards_are_no_candidates() -> None:
    found = Retriever(WordEmbedder(), Backwards()).find("hello", (), np.zeros((0, 0), np.float32))
    assert (found.cards, found.scores.shape, found.vectors.shape) == ((), (0,), (0, 64))
    assert found.query.shape == (64,)


@given(st.lists(st.floats(-1e6, 1e6), max_size=10))
def test_log_sigmoid_is_a_finite_logarithm_of_a_probability(logits: list[float]) -> None:
    found = log_sigmoid(np.array(logits))
    assert np.all((found <= 0) & (found >= -30))
    inside = np.abs(logits) < 20 if logits else np.zeros(0, bool)
    assert np.exp(found[inside]) == pytest.approx(1 / (1 + np.exp(-np.array(logits)[inside])))


def test_the_pair_reader_and_the_cosine_are_weighed_together() -> None:
    def read(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        return np.array([[float(len(note))] for _, note in pairs])

    reranker = ReaderReranker(read, Weighing(reader=0.5, cosine=4.0, bias=-3.0))
    found = reranker.scores("q", ["ab", "abcd"], np.array([0.5, 0.25]))
    chances = [1 / (1 + math.exp(-(0.5 * length + 4 * cosine - 3))) for length, cosine in ((2, 0.5), (4, 0.25))]
    assert np.exp(found) == pytest.approx(chances)
    assert reranker.scores("q", [], np.zeros(0)).shape == (0,)
    assert weighing_for("all-MiniLM-L6-v2").cosine > 0
    assert weighing_for("another model").cosine == 0  # its cosines mean something else
