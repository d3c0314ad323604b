"""Rankings against hand-computed cases, floors, sets from files, and the report."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.data.pairs import is_apart
from penchant.errors import InputError, MissingExtra, ModelError
from penchant.evaluate import retrieval_pages
from penchant.evaluate.pages import describe
from penchant.evaluate.retrieval import (
    FLOORS,
    REPORT,
    Measures,
    Ranking,
    build_report,
    choose_floor,
    compare,
    fill_prompts,
    halves,
    measure,
    tell_silence,
)
from penchant.evaluate.retrieval_sets import Query, QuerySet, User, read_ikat, read_profiles
from penchant.evaluate.retrieval_systems import RERANKED, bm25, dense, hybrid, load_systems, reranked, systems
from penchant.memory.merge import new_card
from penchant.retrieve.search import TOP, Retriever
from penchant.types import Preference
from tests.memory.conftest import WordEmbedder, source

SCORES = st.lists(st.sampled_from([-math.inf, -2.0, 0.0, 0.5, 1.0]), min_size=1, max_size=8)


def by_hand(order: Sequence[int], relevant: Sequence[int]) -> Measures:
    """Measure one strict order, as the definitions say."""
    hits = [note in relevant for note in order]
    gains = [hit / math.log2(place + 2) for place, hit in enumerate(hits)]
    ideal = [1 / math.log2(place + 2) for place in range(min(5, len(relevant)))]
    return Measures(
        sum(hits[:3]) / len(relevant),
        sum(hits[:5]) / len(relevant),
        sum(gains[:5]) / sum(ideal),
        1 / (hits.index(1) + 1),
    )


def numbers(found: Measures) -> list[float]:
    return [found.recall_at_3, found.recall_at_5, found.ndcg_at_5, found.mrr]


@st.composite
def ranked(draw: st.DrawFn) -> tuple[list[float], list[int]]:
    scores = draw(SCORES)
    return scores, draw(st.lists(st.sampled_from(range(len(scores))), min_size=1, unique=True))


def test_measures_of_a_known_ranking() -> None:
    found = measure(np.array([0.1, 0.9, 0.8, 0.7, 0.6, 0.5]), [2, 4, 0])  # at ranks 2, 4 and 6
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    assert found == Measures(1 / 3, 2 / 3, pytest.approx((1 / math.log2(3) + 1 / math.log2(5)) / ideal), 1 / 2)


def test_more_notes_than_fit() -> None:
    found = measure(-np.arange(10.0), range(8))
    assert numbers(found) == pytest.approx([3 / 8, 5 / 8, 1, 1])


def test_ties_are_in_no_order() -> None:
    found = measure(np.zeros(4), [3])
    assert numbers(found) == pytest.approx(
        [3 / 4, 1, sum(1 / math.log2(rank + 1) for rank in range(1, 5)) / 4, (1 + 1 / 2 + 1 / 3 + 1 / 4) / 4]
    )


@given(ranked())
def test_measures_are_means_over_the_orders_of_ties(case: tuple[list[float], list[int]]) -> None:
    scores, relevant = case[0][:6], [place for place in case[1] if place < 6]
    if not relevant:
        return
    orders = [o for o in permutations(range(len(scores))) if all(scores[a] >= scores[b] for a, b in pairwise(o))]
    expected = np.mean([numbers(by_hand(order, relevant)) for order in orders], axis=0)
    assert numbers(measure(np.array(scores), relevant)) == pytest.approx(expected.tolist())


@given(ranked(), st.randoms())
def test_the_order_of_the_notes_does_not_matter(case: tuple[list[float], list[int]], rng: Any) -> None:
    scores, relevant = case
    places = list(range(len(scores)))
    rng.shuffle(places)
    moved = measure(np.array([scores[place] for place in places]), [places.index(place) for place in relevant])
    assert numbers(moved) == pytest.approx(numbers(measure(np.array(scores), relevant)))


@given(ranked())
def test_measures_are_shares_and_more_places_find_more(case: tuple[list[float], list[int]]) -> None:
    found = measure(np.array(case[0]), case[1])
    assert found.recall_at_3 <= found.recall_at_5
    assert all(0 <= value <= 1 + 1e-12 for value in numbers(found))


@given(st.integers(1, 12), st.data())
def test_a_perfect_ranking_is_perfect(count: int, data: st.DataObject) -> None:
    relevant = data.draw(st.lists(st.sampled_from(range(count)), min_size=1, unique=True))
    scores = np.array([float(place in relevant) for place in range(count)]) - np.linspace(0, 0.1, count)
    found = measure(scores, relevant)
    assert (found.ndcg_at_5, found.mrr) == (pytest.approx(1), 1)
    assert found.recall_at_5 == pytest.approx(min(1, 5 / len(relevant)))


def test_the_floor_of_the_best_balanced_accuracy() -> None:
    assert choose_floor(np.array([0.1, 0.2, 0.6, 0.8]), np.array([1, 1, 0, 0])) == pytest.approx(0.4)
    assert choose_floor(np.array([0.1, 0.5]), np.array([0, 1])) == 0.1  # nothing is gained by any silence
    assert choose_floor(np.array([0.1, 0.5]), np.zeros(2)) is None
    assert choose_floor(np.array([0.1, 0.5]), np.ones(2)) is None


@given(
    st.lists(st.tuples(st.sampled_from([-30.0, -1.0, 0.0, 1e-300, 0.3, 0.31]), st.booleans()), min_size=2, max_size=9)
)
def test_no_floor_is_better(cases: list[tuple[float, bool]]) -> None:
    tops, none = (np.array(column, float) for column in zip(*cases, strict=True))
    floor = choose_floor(tops, none)
    if floor is None:
        assert none.all() or not none.any()
        return

    def balanced(at: float) -> float:
        return float((tops < at)[none > 0].mean() + (tops >= at)[none == 0].mean())

    assert balanced(floor) == pytest.approx(max(balanced(at) for at in (*tops, np.inf, 0.305)))


def ranking(user: str, top: float, *relevant: int) -> Ranking:
    return Ranking(user, f"{user} {top}", relevant, (0,), (top,), None)


def test_each_half_is_measured_with_the_floor_of_the_other() -> None:
    half = {"a": 0, "b": 1}
    mine = [ranking("a", 0.1), ranking("a", 0.9, 0), ranking("b", 0.55), ranking("b", 0.75, 1), ranking("b", 0.3, 1)]
    found = tell_silence(mine, half)
    assert found.floors == pytest.approx((0.65, 0.5))
    assert (found.said, found.none, found.right) == (2, 2, 1)  # of b, 0.3 is taken for nothing and 0.55 is not
    assert (found.precision.value, found.recall.value) == (0.5, 0.5)
    assert found.balanced.value == pytest.approx((1 / 2 + 2 / 3) / 2)
    one_sided = tell_silence([each for each in mine if each.relevant or each.user == "a"], half)
    assert one_sided.floors == (None, 0.5)
    assert (one_sided.said, one_sided.none) == (1, 0)  # of a, whose floor is unknown, nothing is measured


def test_halves_do_not_depend_on_the_order() -> None:
    users = [User(f"u{number}", ("x",), ()) for number in range(21)]
    assert halves(users) == halves(users[::-1])
    assert sorted(halves(users).values()).count(0) == 11


NOTES = ("When writing Python, use tabs.", "When all recipes, no nuts.", "When coding in Rust, be short.", "日本語で。")


def test_systems_are_those_that_users_run() -> None:
    embedder = WordEmbedder()

    class Shortest:
        name = "shortest"

        def scores(self, query: str, notes: Sequence[str], cosines: object) -> np.ndarray:
            return -np.array([float(len(note)) for note in notes])

    many = [Preference(condition="general", action=f"do {n} of {n % 7}, code {n % 5}", confidence=1) for n in range(90)]
    cards = [new_card("ann", rule, source(0)) for rule in many]
    notes = [card.note for card in cards]
    vectors = embedder.embed(notes)
    for query in ("fix my code 3", "of 5"):
        for transform in (False, True):
            mine = dense(embedder.embed, transform)(query, notes)
            found = Retriever(embedder, transform=transform).find(query, cards, vectors)
            assert np.sort(mine)[::-1][:TOP] == pytest.approx(found.scores)
        mine = reranked(dense(embedder.embed, transform=True), Shortest().scores)(query, notes)
        found = Retriever(embedder, Shortest()).find(query, cards, vectors)
        assert {card.note: score for card, score in zip(found.cards, found.scores, strict=True)} == {
            note: score for note, score in zip(notes, mine, strict=True) if np.isfinite(score)
        }


def test_words_that_are_shared_count_the_more_the_rarer_they_are() -> None:
    scores = bm25("python recipes", NOTES)
    assert scores[0] > 0 < scores[1]
    assert scores[2] == scores[3] == 0
    notes = ("use tabs in python", "use tabs in rust", "use tabs in java")
    assert bm25("tabs in rust", notes).argmax() == 1
    assert not bm25("the of", NOTES).any()
    assert not bm25("", NOTES).any()
    assert not bm25("python", ("the", "!")).any()
    assert bm25("日本語で", NOTES).argmax() == 3


def test_ranks_are_fused() -> None:
    def meaning(_: str, notes: Sequence[str]) -> np.ndarray:
        return np.array([0.9, 0.8, 0.8, 0.1])

    def words(_: str, notes: Sequence[str]) -> np.ndarray:
        return np.array([0.0, 0.0, 2.0, 5.0])

    assert hybrid(meaning, words)("q", NOTES) == pytest.approx([1 / 61, 1 / 62.5, 1 / 62.5 + 1 / 62, 1 / 64 + 1 / 61])


def test_texts_are_embedded_once() -> None:
    asked: list[tuple[str, ...]] = []

    def embed(texts: Sequence[str]) -> np.ndarray:
        asked.append(tuple(texts))
        return WordEmbedder().embed(texts)

    found = systems(embed, None)
    assert list(found) == ["dense", "dense + transformation", "BM25", "hybrid (dense and BM25)"]
    for score in found.values():
        score("python", NOTES)
    assert asked.count(NOTES) == 1
    assert asked.count(("python",)) == 1
    with_reranker = systems(embed, lambda _, notes: np.zeros(len(notes)))
    assert list(with_reranker)[2] == "dense + transformation + reranker"


def test_without_the_library_the_install_command_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penchant.extras.find_spec", lambda name: None if name == "bm25s" else name)
    with pytest.raises(MissingExtra, match=r"bm25s: pip install 'penchant\[train\]'"):
        load_systems("all-MiniLM-L6-v2", "none")


def profile(name: str, **changes: Any) -> dict[str, Any]:
    rules = [
        {"id": "g", "condition": "general", "action": "be short"},
        {"id": "p", "condition": "when writing Python code", "action": "use tabs"},
        {"id": "r", "condition": "all recipes", "action": "no nuts"},
    ]
    queries = [
        {"id": "q1", "text": "Python please", "relevant": ["p"]},
        {"id": "q2", "text": "recipes and Python", "relevant": ["r", "p", "r"]},
        {"id": "q3", "text": "hello", "relevant": []},
        {"id": "q4", "text": "how long?", "relevant": ["g"]},
    ]
    return {"id": name, "persona": "someone", "preferences": rules, "queries": queries, **changes}


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def test_profiles_become_users(tmp_path: Path) -> None:
    first, second = lines(tmp_path / "a", profile("ann")), lines(tmp_path / "b", profile("bob"))
    found = read_profiles([first, second], apart=False)
    assert [user.id for user in found.users] == ["ann", "bob"]
    assert found.users[0].notes == ("When writing Python code, use tabs.", "When all recipes, no nuts.")
    assert [query.relevant for query in found.users[0].queries] == [(0,), (0, 1), (), ()]
    assert "2 profiles" in found.remarks[0]
    assert found.remarks[1].startswith("2 of their 4 conditional rules skip retrieval")  # "all recipes"


def test_profiles_kept_apart(tmp_path: Path) -> None:
    names = [f"user-{number}" for number in range(40)]
    path = lines(tmp_path / "many", *map(profile, names))
    found = read_profiles([path], apart=True)
    assert [user.id for user in found.users] == [name for name in names if is_apart(name)]
    assert 0 < len(found.users) < 40
    seen = next(name for name in names if not is_apart(name))
    with pytest.raises(InputError, match="none of the 1 profiles is kept apart"):
        read_profiles([lines(tmp_path / "one", profile(seen))], apart=True)


GOOD = json.dumps(profile("good"))
RULES = profile("x")["preferences"]
HELLO = [{"id": "q3", "text": "hello", "relevant": []}]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ("", "file:2: Profile: Invalid JSON"),
        ("[]", "file:2: Profile: "),
        ('{"id": "x"}', "file:2: persona: Field required"),
        (json.dumps(profile("x", preferences=[])), "file:2: preferences: "),
        (json.dumps(profile("x", queries=[])), "file:2: queries: "),
        (json.dumps(profile("x", queries=[{"id": "q", "text": "t"}])), "file:2: queries.0.relevant: Field required"),
        (json.dumps(profile("x", queries=[{"id": "q", "text": "", "relevant": []}])), "file:2: queries.0.text: "),
        (
            json.dumps(profile("x", queries=[{"id": "q", "text": "t", "relevant": ["p", "p99"]}])),
            "relevant: there is no 'p99'",
        ),
        (json.dumps(profile("x", preferences=[*RULES, RULES[0]])), "preferences: two have the same id"),
        (json.dumps(profile("x", preferences=RULES[:1], queries=HELLO)), "file:2: preferences: every one is general"),
        (
            json.dumps(
                profile("x", preferences=[{"id": "l", "condition": "when " * 30, "action": "a"}], queries=HELLO)
            ),
            "file:2: preferences: condition: ",
        ),
        (GOOD, "file:2: id 'good' is that of .*file:1 too"),
    ],
)
def test_bad_profiles_are_named(tmp_path: Path, second: str, message: str) -> None:
    path = tmp_path / "file"
    path.write_text(f"{GOOD}\n{second}\n", encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        read_profiles([path], apart=False)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_profiles([tmp_path / "absent"], apart=False)
    (tmp_path / "empty").write_text("")
    with pytest.raises(InputError, match="empty is empty"):
        read_profiles([tmp_path / "empty"], apart=False)
    (tmp_path / "latin").write_bytes(b'{"id": "\xe9"}\n')
    with pytest.raises(InputError, match="latin:1: Profile: Invalid JSON"):
        read_profiles([tmp_path / "latin"], apart=False)


def topic(**changes: Any) -> dict[str, Any]:
    turns = [
        {"turn_id": 1, "utterance": "a diet?", "resolved_utterance": "a vegan diet?", "ptkb_provenance": [2, "1", 2]},
        {"turn_id": 2, "utterance": "and then?", "resolved_utterance": " ", "ptkb_provenance": []},
    ]
    return {"number": "9-1", "ptkb": {"1": "I run.", "2": "I'm vegan."}, "turns": turns, "title": "Diet", **changes}


def test_topics_become_users(tmp_path: Path) -> None:
    path = tmp_path / "topics.json"
    path.write_text(json.dumps([topic(), topic(number="9-2")]))
    found = read_ikat(path, resolved=True)
    assert [user.id for user in found.users] == ["9-1", "9-2"]
    assert found.users[0].notes == ("I run.", "I'm vegan.")
    queries = found.users[0].queries
    assert [(query.id, query.text, query.relevant) for query in queries] == [
        ("9-1_1", "a vegan diet?", (0, 1)),
        ("9-1_2", "and then?", ()),
    ]
    assert read_ikat(path, resolved=False).users[0].queries[0].text == "a diet?"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Invalid JSON"),
        ("{}", "topics: Input should be a valid"),
        ("[]", "topics: .* at least 1"),
        (json.dumps([topic(ptkb={})]), r"0\.ptkb: "),
        (json.dumps([topic(ptkb={"1": ""})]), r"0\.ptkb\.1: "),
        (json.dumps([{"number": "1"}]), r"0\.ptkb: Field required"),
        (
            json.dumps([topic(turns=[{"turn_id": 1, "utterance": "u"}])]),
            r"0\.turns\.0\.ptkb_provenance: Field required",
        ),
        (
            json.dumps([topic(turns=[{"turn_id": 7, "utterance": "u", "ptkb_provenance": [3]}])]),
            "topic 9-1, turn 7: ptkb_provenance: there is no '3'",
        ),
        (json.dumps([topic(), topic()]), "topic 9-1 is there twice"),
    ],
)
def test_bad_topics_are_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "topics.json"
    path.write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        read_ikat(path, resolved=True)
    assert str(caught.value).startswith(str(path))
    with pytest.raises(InputError, match="no such file"):
        read_ikat(tmp_path / "absent", resolved=True)


def people(count: int) -> QuerySet:
    """Users with two notes and three queries; a note's own words find it."""
    return QuerySet(
        "people",
        tuple(
            User(
                f"u{number}",
                NOTES,
                (Query("a", "writing python", (0,)), Query("b", "nuts", (1,)), Query("c", "zzz", ())),
            )
            for number in range(count)
        ),
    )


def test_systems_side_by_side(tmp_path: Path) -> None:
    def blind(_: str, notes: Sequence[str]) -> np.ndarray:
        return np.zeros(len(notes))

    result = compare(people(12), {"blind": blind, "BM25": bm25})
    by_chance, words = result.systems
    assert words.ndcg_at_5.value == words.mrr.value == words.recall_at_3.value == 1
    assert by_chance.recall_at_3.value == 0.75
    assert by_chance.mrr.value == pytest.approx((1 + 1 / 2 + 1 / 3 + 1 / 4) / 4)
    assert by_chance.gain.value == 0
    assert words.gain.value == pytest.approx(1 - by_chance.ndcg_at_5.value)
    assert words.mrr.low is not None
    assert words.silence.precision.value == words.silence.recall.value == 1
    assert (words.silence.said, words.silence.none) == (12, 12)
    assert by_chance.silence.balanced.value == 0.5
    report = build_report(
        describe("penchant evaluate", [], {"m": "x|y"}), [people(12), people(1)], {"a": blind, "b": bm25}
    )
    data = REPORT.dump_json(report)
    assert REPORT.validate_json(data) == report
    text = retrieval_pages.render(report)
    assert "12 users with 4.0 notes each on average; 24 queries to which a note applies, and 12 to which none" in text
    assert "nan" not in text
    assert r"- m: x\|y" in text
    retrieval_pages.draw(report).savefig(tmp_path / "plot.png")
    assert "| b | 12 of 12 | 100.0% (100.0 to 100.0) |" in text


def test_what_prompts_hold() -> None:
    def query(number: int, relevant: tuple[int, ...], *scores: float) -> Ranking:
        return Ranking("u", f"q{number}", relevant, (4, 2, 0, 1), tuple(np.log(scores)), None)

    mine = [
        query(0, (2, 1), 0.9, 0.6, 0.4, 0.35),  # the fourth has no room
        query(1, (), 0.4, 0.2, 0.1, 0.1),
        query(2, (), 0.2, 0.2, 0.1, 0.1),
    ]
    found = fill_prompts(mine, 0.3)
    assert (found.recall.value, found.precision.value, found.silent.value) == (1 / 2, 1 / 4, 1 / 2)
    every = fill_prompts(mine, 0.0)
    assert (every.recall.value, every.precision.value, every.silent.value) == (1 / 2, 1 / 9, 0)
    none = fill_prompts(mine, 0.95)
    assert (none.recall.value, none.precision.value, none.silent.value) == (0, None, 1)

    def certain(_: str, notes: Sequence[str]) -> np.ndarray:
        return np.log(np.linspace(0.1, 0.9, len(notes)))

    report = build_report(describe("c", [], {}), [people(12)], {"dense": bm25, RERANKED: certain})
    assert [len(system.prompts) for system in report.sets[0].systems] == [0, len(FLOORS)]
    assert "The loop's floor is" in retrieval_pages.render(report)


def test_the_curve_of_silence() -> None:
    (result,) = compare(people(3), {"BM25": bm25}).systems
    recalls, precisions = retrieval_pages.silence_curve(result)
    assert (recalls[0], precisions[0]) == (1, 1)
    assert (recalls[-1], precisions[-1]) == (1, pytest.approx(1 / 3))


@pytest.mark.parametrize("scores", [np.zeros(3), np.full(4, np.nan), np.zeros((4, 1))])
def test_a_system_without_scores_is_an_error(scores: np.ndarray) -> None:
    with pytest.raises(ModelError, match="odd gives no score to some note of u0"):
        compare(people(1), {"odd": lambda _query, _notes: scores})


def test_odd_sets_make_whole_reports(tmp_path: Path) -> None:
    quiet = QuerySet("quiet", (User("u", NOTES, (Query("c", "zzz", ()),)),), ("a | remark",))
    loud = QuerySet("loud", (User("u", NOTES, (Query("c", "python", (0,)),)),))
    report = build_report(describe("c", [], {}), [quiet, loud], {"BM25": bm25})
    assert REPORT.validate_json(REPORT.dump_json(report)) == report
    assert "nan" not in retrieval_pages.render(report)
    retrieval_pages.draw(report).savefig(tmp_path / "plot.png")
