"""The two learners behind one protocol: the default and the paper's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penchant.errors import StoreError
from penchant.learn.base import Candidates, Feedback, Learner
from penchant.learn.evidence import CREDIT, LIMIT, SCALE, EvidenceLearner, unpack
from penchant.learn.paper import LOOK, PaperLearner
from penchant.learn.space import first_coordinates, fit_space
from penchant.learn.state import Tolerant, UnreadableError, dump
from penchant.learn.vectors import Rates, UserVectors, policy, update

IDS = ("a", "b", "c", "d")


def unit(*values: float) -> np.ndarray:
    vector = np.array(values, float)
    return vector / np.linalg.norm(vector)


def candidates(query: np.ndarray, seed: int = 0) -> Candidates:
    rng = np.random.default_rng(seed)
    return Candidates(IDS, rng.normal(size=(4, 8)), rng.normal(size=4), query)


def feedback(
    query: np.ndarray, reward: float = 0.0, chosen: tuple[int, ...] = (), wanted: str = "", turn: int = 1
) -> Feedback:
    return Feedback(candidates(query), np.array(chosen, int), reward, 1.0, frozenset(wanted), f"s#{turn}")


HERE, NEAR, FAR = unit(1, 0, 0, 0, 0, 0, 0, 0), unit(1, 0.3, 0, 0, 0, 0, 0, 0), unit(0, 1, 0, 0, 0, 0, 0, 0)


def test_a_wanted_card_rises_where_it_was_wanted() -> None:
    learner = EvidenceLearner()
    assert np.array_equal(learner.bonus(None, candidates(HERE)).total, np.zeros(4))
    state = learner.learn(None, feedback(HERE, wanted="c"))
    here, near, far = (learner.bonus(state, candidates(query)).total for query in (HERE, NEAR, FAR))
    assert here[2] > near[2] > 10 * far[2] > 0
    assert here[2] == pytest.approx(SCALE / 1.5, rel=1e-3)  # one piece of evidence against half a one of the prior
    assert np.array_equal(here[[0, 1, 3]], np.zeros(3))
    assert learner.bonus(state, candidates(HERE)).because == ((), (), ("s#1 (+1.00)",), ())


def test_praise_lifts_what_was_shown_and_blame_lowers_it_but_less_than_a_wish() -> None:
    learner = EvidenceLearner()
    praised = learner.bonus(learner.learn(None, feedback(HERE, 1.0, (0, 1))), candidates(HERE)).total
    blamed = learner.bonus(learner.learn(None, feedback(HERE, -1.0, (0,), wanted="b")), candidates(HERE)).total
    assert praised[0] == praised[1] == -blamed[0] > 0
    assert blamed[1] > 2 * praised[0]
    both = learner.bonus(learner.learn(None, feedback(HERE, -1.0, (0,), wanted="a")), candidates(HERE)).total
    assert both[0] > 0  # what is asked for again was not wrong to show
    assert learner.learn(None, feedback(HERE)) is None


def test_a_turn_is_one_piece_of_evidence_about_a_card() -> None:
    learner = EvidenceLearner()
    blamed = learner.learn(None, feedback(HERE, -1.0, (0, 1)))
    wanted = learner.learn(blamed, feedback(HERE, wanted="a"))
    for state in (wanted, learner.learn(wanted, feedback(HERE, 1.0, (0, 1)))):
        kept = unpack(state)
        assert kept
        assert dict(zip(kept.cards, kept.gains, strict=True)) == {"a": 1.0, "b": -CREDIT}
        assert len(kept.cards) == 2
    assert len(unpack(learner.learn(wanted, feedback(HERE, 1.0, (0,), turn=2))).cards) == 3  # type: ignore[union-attr]


@given(st.lists(st.tuples(st.floats(-1, 1), st.sampled_from(["", "a", "b", "cd"]), st.integers(0, 9)), max_size=30))
def test_the_bonus_is_bounded_and_does_not_depend_on_the_order(turns: list[tuple[float, str, int]]) -> None:
    learner = EvidenceLearner()
    queries = [unit(*np.random.default_rng(seed).normal(size=8)) for _, _, seed in turns]
    told = [
        feedback(query, reward, (0, 3), wanted, turn)
        for turn, (query, (reward, wanted, _)) in enumerate(zip(queries, turns, strict=True))
    ]
    totals = []
    for order in (told, told[::-1]):
        state = None
        for each in order:
            state = learner.learn(state, each)
        totals.append(learner.bonus(state, candidates(HERE)).total)
    assert totals[0] == pytest.approx(totals[1], abs=1e-9)
    assert np.all(np.abs(totals[0]) < SCALE)


def test_more_evidence_is_trusted_more_and_old_evidence_goes() -> None:
    learner = EvidenceLearner()
    state, last = None, 0.0
    for number in range(5):
        state = learner.learn(state, feedback(HERE, wanted="a", turn=number))
        now = learner.bonus(state, candidates(HERE)).total[0]
        assert last < now < SCALE
        last = now
    for number in range(5, LIMIT + 5):
        state = learner.learn(state, feedback(FAR, wanted="b", turn=number))
    kept = unpack(state)
    assert kept
    assert set(kept.cards) == {"b"}
    assert len(kept.cards) == LIMIT


def test_nothing_is_kept_of_a_deleted_card() -> None:
    learner = EvidenceLearner()
    state = learner.learn(learner.learn(None, feedback(HERE, wanted="ab")), feedback(NEAR, 1.0, (0,)))
    kept = unpack(learner.forget(state, frozenset("a")))
    assert kept
    assert list(kept.cards) == ["b"]
    assert unpack(learner.forget(state, frozenset("ab"))) is None
    assert learner.forget(None, frozenset("a")) is None
    assert learner.learn(learner.forget(state, frozenset("ab")), feedback(HERE, wanted="a"))


def test_the_papers_learner_is_its_equations() -> None:
    learner = PaperLearner(lambda: first_coordinates(8, k=6))
    state, user = None, UserVectors.zeros(6)
    for seed, reward in enumerate((-1.0, 0.5, 1.0)):
        here = candidates(HERE, seed)
        items = here.vectors[:, :6]
        chances = policy(here.scores + items @ (2.0 * user.long + 5.0 * user.short), 1.0)
        user = update(user, items, chances, np.array([1, 2]), reward, 0.5, Rates())
        state = learner.learn(state, Feedback(here, np.array([1, 2]), reward, 0.5))
    kept = learner.vectors(state)
    assert kept.long == pytest.approx(user.long, abs=1e-15)
    assert kept.short == pytest.approx(user.short, abs=1e-15)
    assert kept.baseline == pytest.approx(user.baseline)
    parts = learner.bonus(state, candidates(HERE)).parts
    assert parts["long-term"] == pytest.approx(candidates(HERE).vectors[:, :6] @ (2.0 * user.long))
    assert parts["short-term"] == pytest.approx(candidates(HERE).vectors[:, :6] @ (5.0 * user.short))
    assert np.abs(learner.vectors(learner.end_session(state)).short).max() == 0
    assert learner.learn(state, Feedback(here, np.array([], int), 1.0, 1.0)) is state


def test_a_grown_memory_gives_a_new_space_and_keeps_what_was_learned() -> None:
    rng = np.random.default_rng(0)
    data = rng.normal(size=(300, 3)) @ rng.normal(size=(3, 8))
    fitted = [fit_space(data[:50], k=6)]
    learner, other = (PaperLearner(lambda: fitted[-1]) for _ in range(2))
    here = Candidates(IDS, data[:4], rng.normal(size=4), HERE)
    state = learner.learn(None, Feedback(here, np.array([1]), -1.0, 1.0))
    before = learner.bonus(state, here).total
    old = learner.vectors(state).long
    fitted.append(fit_space(data, k=6))
    for _ in range(LOOK - 1):
        learner.end_session(state)
    assert np.array_equal(learner.vectors(state).long, old)  # not looked at yet
    learner.end_session(state)
    assert not np.allclose(learner.vectors(state).long, old)
    after = learner.bonus(state, here).total
    assert before - before.mean() == pytest.approx(after - after.mean())
    assert np.abs(before - before.mean()).max() > 1e-3
    # another process has not looked since, and reads the same from what was learned in the new space
    moved = learner.learn(state, Feedback(here, np.array([2]), 1.0, 1.0))
    ours, theirs = learner.bonus(moved, here).total, other.bonus(moved, here).total
    assert theirs - theirs.mean() == pytest.approx(ours - ours.mean())


@pytest.mark.parametrize(
    "learner", [EvidenceLearner(), PaperLearner(lambda: first_coordinates(8))], ids=lambda each: each.name
)
def test_no_candidates(learner: Learner) -> None:
    nothing = Candidates((), np.zeros((0, 8)), np.zeros(0), HERE)
    assert learner.bonus(None, nothing).total.shape == (0,)
    assert learner.learn(None, Feedback(nothing, np.array([], int), 1.0, 1.0)) is None
    assert learner.end_session(None) is None


EVIDENCE: dict[str, NDArray] = {"situations": np.ones((2, 8), np.float16), "gains": np.ones(2)}
TEXTS = {"cards": ["a", "b"], "turns": ["s#1", "s#2"]}
VECTORS: dict[str, NDArray] = {"long": np.ones(8), "short": np.ones(8), "baseline": np.ones(1)}


def altered(arrays: dict[str, NDArray], **other: object) -> dict[str, NDArray]:
    return {name: array for name, array in {**arrays, **other}.items() if array is not None}  # type: ignore[misc]


@pytest.mark.parametrize(
    "state",
    [
        b"junk",
        dump({}, {}),
        dump(altered(EVIDENCE, gains=None), TEXTS),
        dump(EVIDENCE, {"cards": ["a", "b"]}),
        dump(altered(EVIDENCE, gains=np.ones(3)), TEXTS),
        dump(altered(EVIDENCE, gains=np.ones((2, 1))), TEXTS),
        dump(altered(EVIDENCE, gains=np.ones(2, np.int64)), TEXTS),
        dump(altered(EVIDENCE, gains=np.array([1.0, np.nan])), TEXTS),
        dump(EVIDENCE, {**TEXTS, "turns": ["s#1"]}),
        dump(altered(EVIDENCE, cards=np.frombuffer(b"no JSON", np.uint8)), {"turns": ["s#1", "s#2"]}),
        dump(altered(EVIDENCE, cards=np.frombuffer(b'[["a"], "b"]', np.uint8)), {"turns": ["s#1", "s#2"]}),
        dump(altered(EVIDENCE, cards=np.frombuffer(b"[" * 200_000, np.uint8)), {"turns": ["s#1", "s#2"]}),
    ],
)
def test_evidence_that_is_damaged_counts_as_nothing(state: bytes, caplog: pytest.LogCaptureFixture) -> None:
    learner, tolerant = EvidenceLearner(), Tolerant(EvidenceLearner())
    for act in (
        lambda: learner.bonus(state, candidates(HERE)),
        lambda: learner.learn(state, feedback(HERE, wanted="a")),
        lambda: learner.forget(state, frozenset("a")),
    ):
        with pytest.raises(UnreadableError, match="what was learned cannot be read"):
            act()
    assert np.array_equal(tolerant.bonus(state, candidates(HERE)).total, np.zeros(4))
    assert tolerant.learn(state, feedback(HERE, wanted="a")) == learner.learn(None, feedback(HERE, wanted="a"))
    assert tolerant.forget(state, frozenset("a")) is None
    assert "it counts as nothing" in caplog.text


def test_evidence_of_vectors_of_another_length_counts_as_nothing_but_can_be_forgotten() -> None:
    learner = EvidenceLearner()
    state = dump(altered(EVIDENCE, situations=np.ones((2, 7), np.float16)), TEXTS)
    with pytest.raises(UnreadableError):
        learner.bonus(state, candidates(HERE))
    assert np.array_equal(Tolerant(learner).bonus(state, candidates(HERE)).total, np.zeros(4))
    kept = unpack(learner.forget(state, frozenset("a")))
    assert kept
    assert list(kept.cards) == ["b"]


@pytest.mark.parametrize(
    "state",
    [
        b"junk",
        dump(altered(VECTORS, baseline=None), {}),
        dump(altered(VECTORS, baseline=np.ones(2)), {}),
        dump(altered(VECTORS, short=np.ones(9)), {}),
        dump(altered(VECTORS, long=np.ones(9), short=np.ones(9)), {}),
        dump(altered(VECTORS, long=np.full(8, np.inf)), {}),
    ],
)
def test_vectors_that_are_damaged_count_as_nothing(state: bytes) -> None:
    learner, tolerant = (make(PaperLearner(lambda: first_coordinates(8))) for make in (lambda each: each, Tolerant))
    told = feedback(HERE, 1.0, (1,))
    for act in (
        lambda: learner.bonus(state, candidates(HERE)),
        lambda: learner.learn(state, told),
        lambda: learner.end_session(state),
    ):
        with pytest.raises(UnreadableError, match="what was learned cannot be read"):
            act()
    assert np.array_equal(tolerant.bonus(state, candidates(HERE)).total, np.zeros(4))
    assert tolerant.learn(state, told) == learner.learn(None, told)
    assert tolerant.end_session(state) == state  # nothing to keep in its place yet


def test_a_store_that_fails_is_not_taken_for_a_damaged_state() -> None:
    class Ill(EvidenceLearner):
        def end_session(self, state: bytes | None) -> bytes | None:
            raise StoreError("locked")

    with pytest.raises(StoreError, match="locked"):
        Tolerant(Ill()).end_session(dump(EVIDENCE, TEXTS))
