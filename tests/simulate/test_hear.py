"""The chat model follows what it is told, and the extractor hears as badly as it is said to."""

from __future__ import annotations

import pytest

from penchant import Turn
from penchant.prompt import notes_block, transcript_block, with_block
from penchant.simulate.hear import HISTORY, SUMMARY, Hearing, Noise, prompt_lines, told
from penchant.simulate.talk import variants, voice_of
from penchant.types import note
from tests.simulate.conftest import make_user

ANN, BOB = make_user("ann"), make_user("bob")
VOICE = voice_of(ANN)
TASK = {"role": "user", "content": "asking about topic0"}


def notes(*rules: str) -> list[str]:
    return [note(variants(rule)[-1]) for rule in ANN.rules if rule.id in rules]


def phrase(rule: str, number: int = 0) -> str:
    return VOICE.wordings[rule][number]


def hearing(recall: float, false: float = 0.0) -> Hearing:
    return Hearing(VOICE, ANN.rules, BOB.rules, Noise(recall, false), "seed")


def test_notes_in_the_prompt_are_followed_in_whatever_words() -> None:
    given = with_block([TASK], notes_block([*notes("t1", "g0"), "When asking about topic2, something else."]))
    assert told(given, VOICE) == {"t1", "g0"}
    assert len(prompt_lines(given)) == 3
    assert told([TASK], VOICE) == set()
    assert prompt_lines([TASK]) == []


def test_notes_outside_the_block_do_not_count() -> None:
    messages = [{"role": "system", "content": notes("t1")[0]}, {"role": "user", "content": notes("t2")[0]}]
    assert told(messages, VOICE) == set()


def test_what_was_enforced_in_this_conversation_is_followed() -> None:
    messages = [TASK, {"role": "assistant", "content": phrase("t2")}, {"role": "user", "content": phrase("t3")}]
    assert told(messages, VOICE) == {"t3"}


def test_of_earlier_conversations_the_last_lines_are_followed() -> None:
    said = [("user", phrase("t0")), ("assistant", phrase("t5")), ("user", phrase("t1"))]
    assert told(with_block([TASK], transcript_block(said)), VOICE) == {"t0", "t1"}
    said += [("user", f"line {number}") for number in range(HISTORY - 2)]
    assert told(with_block([TASK], transcript_block(said)), VOICE) == {"t1"}


def test_a_perfect_reader_finds_what_is_enforced_and_nothing_else() -> None:
    reader = hearing(1.0)
    for rule in ANN.rules:
        found = reader.extract([TASK, {"role": "user", "content": phrase(rule.id, 1)}])
        assert [VOICE.notes[note(words)] for words in found.preferences] == [rule.id]
        assert (found.evidence[0].turn, found.evidence[0].text) == (1, phrase(rule.id, 1))
    assert reader.extract([{"role": "user", "content": phrase("t1")}, TASK]).preferences == ()
    assert hearing(0.0).hear(phrase("t1")) == []


def test_rates_are_as_given() -> None:
    reader = hearing(0.65, 0.05)
    heard = [reader.hear(phrase("t1")) for _ in range(2000)]
    own = [words for found in heard for words in found if note(words) in VOICE.notes]
    strange = [words for found in heard for words in found if note(words) not in VOICE.notes]
    assert len(own) / 2000 == pytest.approx(0.65, abs=0.04)
    assert len(strange) / 2000 == pytest.approx(0.05, abs=0.02)
    assert all("bob" in words.action for words in strange)
    assert len({note(words) for words in own}) > 1


def test_whether_a_rule_is_heard_the_nth_time_does_not_depend_on_what_else_is_said() -> None:
    alone, among = hearing(0.5), hearing(0.5)
    first = [bool(alone.hear(phrase("t1"))) for _ in range(50)]
    second = []
    for _ in range(50):
        among.hear(phrase("t2"))
        second.append(bool(among.hear(phrase("t1", 1))))
    assert first == second
    assert len(set(first)) == 2


def test_a_summary_keeps_the_last_rules_each_once() -> None:
    many = make_user(topics=SUMMARY + 3)
    voice = voice_of(many)
    reader = Hearing(voice, many.rules, (), Noise(1.0, 0.0), "seed")
    summary = ""
    for number in [*range(SUMMARY + 3), SUMMARY + 2]:
        summary = reader.summarise(summary, [("user", voice.wordings[f"t{number}"][0]), ("assistant", "ok")])
    lines = summary.splitlines()
    assert len(lines) == SUMMARY
    assert {voice.notes[line] for line in lines} >= {f"t{number}" for number in range(6, SUMMARY + 3)}
    assert reader.summarise("a\nb", [("assistant", voice.wordings["t1"][0])]) == "a\nb"


def test_turns_are_windows_too() -> None:
    assert hearing(1.0).extract_batch([[Turn(role="user", content=phrase("g0"))]])[0].preferences
