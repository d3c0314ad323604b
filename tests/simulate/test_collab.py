"""Sessions: who learns, who does not, and what is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from penchant.simulate import collab
from penchant.simulate.arms import ARMS, Arm
from penchant.simulate.collab import Conduct, Life, Played, live
from penchant.simulate.hear import Noise
from penchant.simulate.models import Models, cached
from penchant.simulate.run import item_space
from penchant.simulate.talk import voice_of
from penchant.simulate.users import Task, User, strangers, task_order
from tests.simulate.conftest import make_user

ARM = {arm.name: arm for arm in ARMS}
PERFECT = Conduct(noise=Noise(1.0, 0.0))
ANN, BOB = make_user("ann"), make_user("bob")


def lived(
    models: Models, arm: str | Arm, user: User = ANN, sessions: int = 12, conduct: Conduct = PERFECT, seed: int = 0
) -> Life:
    chosen = ARM[arm] if isinstance(arm, str) else arm
    others = strangers([user, BOB], user, 5)
    return live(
        user, voice_of(user), others, chosen, seed, sessions, cached(models), item_space([user, BOB], models), conduct
    )


def unnamed(sessions: Sequence[Played]) -> list[Played]:
    return [replace(played, arm="") for played in sessions]


@pytest.mark.parametrize("arm", [arm.name for arm in ARMS])
def test_the_seed_decides_everything(models: Models, arm: str) -> None:
    noisy = Conduct(noise=Noise(0.6, 0.2))
    first, again, other = (lived(models, arm, conduct=noisy, sessions=8, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.sessions != other.sessions


def test_a_chat_model_that_follows_everything_is_never_corrected(
    models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collab, "told", lambda messages, voice: set(voice.wordings))
    for played in lived(models, "vanilla").sessions:
        assert (played.enforcements, played.turns, played.timeout) == (0, 1, False)


@pytest.mark.parametrize("noise", [Noise(1.0, 0.0), Noise(0.5, 0.5)])
def test_vanilla_never_learns(models: Models, noise: Noise) -> None:
    played = lived(models, "vanilla", conduct=Conduct(noise=noise, turns=50)).sessions
    for session, place in zip(played, task_order(ANN, 0, 12), strict=True):
        assert session.enforcements == len(ANN.applicable(ANN.tasks[place])) == 3
        assert (session.notes, session.recall, session.timeout) == (0, None, False)


def test_with_every_rule_revealed_all_memory_is_never_corrected(models: Models) -> None:
    played = lived(models, "all-memory", sessions=18).sessions
    assert [session.enforcements for session in played[6:]] == [0] * 12
    assert [session.turns for session in played[6:]] == [1] * 12
    assert played[-1].notes == len(ANN.rules)
    assert {session.recall for session in played} == {None, 1.0}
    assert sum(session.enforcements for session in played) == len(ANN.rules)  # each had to be said once


@pytest.mark.parametrize("arm", ["contextual", "reflection", "rag", "vars", "paper"])
def test_every_mode_with_a_memory_learns(models: Models, arm: str) -> None:
    played = lived(models, arm, sessions=18).sessions
    assert sum(session.enforcements for session in played[6:]) <= 0.5 * 3 * 12


def test_without_steps_the_papers_learner_is_rag(models: Models) -> None:
    noisy = Conduct(noise=Noise(0.6, 0.2))
    rag, none, full = (lived(models, arm, conduct=noisy) for arm in ("rag", "paper, none", "paper"))
    assert unnamed(rag.sessions) == unnamed(none.sessions)
    assert rag.norm is None
    assert none.norm == 0
    assert full.norm
    assert full.norm > 0


def test_a_user_gives_up_after_so_many_messages(models: Models) -> None:
    stubborn = make_user("eve", topics=2, general=12)
    for session in lived(models, "vanilla", stubborn, 3, replace(PERFECT, aside=0.0)).sessions:
        assert (session.timeout, session.turns, session.enforcements) == (True, 10, 9)
    for session in lived(models, "vanilla", ANN, 3, replace(PERFECT, aside=1.0)).sessions:
        assert (session.timeout, session.turns, session.enforcements) == (True, 10, 0)
    exact = make_user("joe", topics=2, general=7)  # nine rules apply: the last is followed in the tenth answer
    for session in lived(models, "vanilla", exact, 3, replace(PERFECT, aside=0.0)).sessions:
        assert (session.timeout, session.turns, session.enforcements) == (False, 10, 9)


def test_recall_counts_known_conditional_rules_that_apply(models: Models) -> None:
    four = frozenset(f"t{number}" for number in range(4))
    user = replace(make_user(general=2), tasks=(Task("topic0 topic1 topic2 topic3, please", four),))
    played = lived(models, "rag", user, 3, replace(PERFECT, aside=0.0)).sessions
    assert played[0].recall is None  # nothing is known
    assert played[1].recall == 3 / 4  # three notes at most, and the general ones do not count
    assert played[1].notes == 2 + 3
    assert (played[0].precision, played[1].precision) == (None, 1.0)
    assert played[1].enforcements == 1
    deaf = lived(models, "rag", user, 3, Conduct(noise=Noise(0.0, 0.0))).sessions
    assert [session.recall for session in deaf] == [None] * 3


def test_the_share_of_the_notes_that_apply(models: Models) -> None:
    tasks = (Task("topic0, please", frozenset({"t0"})), Task("topic1 topic2", frozenset({"t1", "t2"})))
    user = replace(make_user(topics=3, general=0), tasks=tasks)
    played = lived(models, "all-memory", user, 6, replace(PERFECT, aside=0.0)).sessions
    for session, place in list(zip(played, task_order(user, 0, 6), strict=True))[2:]:
        assert session.precision == pytest.approx((1 / 3, 2 / 3)[place])


def test_the_most_recent_cards_are_those_said_last(models: Models) -> None:
    five = tuple(Task(f"topic{n}, please", frozenset({f"t{n}"})) for n in range(5))
    user = replace(make_user(topics=5, general=0), tasks=five)
    played = lived(models, "most-recent", user, 10, replace(PERFECT, aside=0.0)).sessions
    order = task_order(user, 0, 10)
    for number in range(5, 10):
        assert played[number].notes == 3
        if order[number] in order[number - 3 : number]:
            assert played[number].enforcements == 0
    assert sum(session.enforcements for session in played) > 5


def test_a_revised_answer_keeps_what_was_right_unless_told_otherwise(models: Models) -> None:
    calm = replace(PERFECT, aside=0.0, turns=40)
    kept = lived(models, "rag", conduct=calm).sessions
    lost = lived(models, "rag", conduct=replace(calm, keeps=False)).sessions
    assert sum(s.enforcements for s in kept) <= sum(s.enforcements for s in lost)


def test_words_are_counted_as_tokens(models: Models) -> None:
    user = replace(ANN, rules=ANN.rules[:0], tasks=(Task("one two three", frozenset()),))
    (session,) = lived(models, "vanilla", user, 1, replace(PERFECT, praise=0.0)).sessions
    assert session.tokens == pytest.approx(3.9)
    assert (session.turns, session.enforcements) == (1, 0)


def test_tasks_that_come_again_are_counted(models: Models) -> None:
    played = lived(models, "vanilla", sessions=13).sessions
    assert [session.before for session in played] == [0] * 6 + [1] * 6 + [2]
    assert [session.session for session in played] == list(range(13))
