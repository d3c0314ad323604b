"""What an answer counts as, and the file that keeps what was paid for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from penchant.data.answers import ANSWERS, Answers, Bill, Question, Reply, hold, read_rules
from penchant.errors import InputError, ParseError
from penchant.extract.schema import MAX_RULES, serialise
from penchant.servers import Completion, Usage
from tests.data.teacher_server import rule

GOOD = serialise([rule("a"), rule("b", 0.5)])
RULES = (rule("a"), rule("b", 0.5))


def question(text: str = "Be brief.", **parameters: object) -> Question:
    return Question("m", ({"role": "user", "content": text},), parameters)


def reply(answer: str, finish_reason: str | None = "stop", key: str = "k") -> Reply:
    return Reply(key=key, answer=answer, finish_reason=finish_reason, usage=Usage(prompt_tokens=7, completion_tokens=2))


@pytest.mark.parametrize(
    ("answer", "rules"),
    [
        (GOOD, RULES),
        (serialise([]), ()),
        (f"\n{GOOD}\n", RULES),
        (f"```json\n{GOOD}\n```", RULES),
        (f"Here you are:\n```\n{GOOD}\n```\nAnything else?", RULES),
        (f"<think>\nPerhaps {serialise([])}? No.\n</think>\n\n{GOOD}", RULES),
        (f"Labels: {GOOD} That is all.", RULES),
        ('Nothing here. {"preferences": []}', ()),
        (f'{{"note": "two", {GOOD[1:]}', RULES),
        (json.dumps([each.model_dump() for each in RULES]), RULES),
        (json.dumps(rule("a").model_dump()), (rule("a"),)),
        (serialise([rule("a"), rule("A"), rule("b", 0.5)]), RULES),
    ],
)
def test_answers_that_hold_every_rule_as_it_was_given(answer: str, rules: object) -> None:
    assert read_rules(reply(answer)) == rules


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "I found nothing.",
        "[]",
        "null",
        "{}",
        "See [] for that.",
        GOOD[:-3],
        GOOD[: GOOD.index("}") + 1],
        f"<think>{GOOD}",
        GOOD.replace('"confidence": 0.9', '"confidence": 90'),
        GOOD.replace('"confidence": 0.9', '"confidence": "0.9"'),
        GOOD.replace(', "confidence": 0.9', ""),
        GOOD.replace('"action": "a", ', ""),
        GOOD.replace('"action": "a"', '"action": ""'),
        GOOD.replace('"action": "a"', f'"action": "{"a" * 300}"'),
        GOOD.replace('"a"', '"say "hi" first"'),
        GOOD.replace("]}", ",]}"),
        GOOD.replace('"action": "a"', '"action": "a", "action": "c"'),
        GOOD.replace("[{", '["use tabs", {'),
        f"{serialise([])} Wait, no: {GOOD}",
        f"{serialise([rule('a')])} and {serialise([])}",
        f"```json\n{serialise([])}\n```\nOr rather\n```json\n{GOOD}\n```",
        "\n".join(json.dumps(each.model_dump()) for each in RULES),
        serialise([rule(f"a{number}") for number in range(MAX_RULES + 1)]),
        '{"preferences": [' * 50_000,
    ],
)
def test_answers_that_may_have_lost_or_changed_a_rule(answer: str) -> None:
    with pytest.raises(ParseError):
        read_rules(reply(answer))


def test_an_answer_that_was_cut_off_is_not_trusted_even_if_it_reads_well() -> None:
    with pytest.raises(ParseError, match="cut off"):
        read_rules(reply(GOOD, finish_reason="length"))
    assert read_rules(reply(GOOD, finish_reason=None)) == RULES


def test_a_question_is_known_by_its_content() -> None:
    assert question(a=1, b=2) == question(b=2, a=1)
    assert len({question(), question("Other."), question(a=1), Question("n", question().messages, {})}) == 4
    assert len(question().key) == 64


def test_asking_again_quotes_the_answer_within_bounds_and_can_be_sent() -> None:
    again = question().again("half an emoji \ud83d" + "x" * 100_000, "not JSON")
    assert [message["role"] for message in again.messages] == ["user", "assistant", "user"]
    assert len(json.dumps(again.body, ensure_ascii=False).encode()) < 5000
    assert "not JSON" in again.messages[2]["content"]
    assert again.key != question().key
    assert question().again("", "x").messages[1]["content"]  # servers refuse an empty message


def test_replies_come_back_from_the_disk(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    assert answers.get("k1") is None
    answers.add(reply("one", key="k1"))
    answers.add(reply("two \u2028\x00 é", key="k2"), reply("three", key="k3"))
    assert answers.bill == Bill(3, 21, 6)
    again = Answers(tmp_path)
    assert [again.get(key) for key in ("k1", "k2", "k3")] == [answers.get(key) for key in ("k1", "k2", "k3")]
    assert again.bill == Bill()  # nothing was paid since
    assert len((tmp_path / ANSWERS).read_text().splitlines()) == 3


@pytest.mark.parametrize("torn", ['{"key": "k2", "answ', '{"key": "k2", "answer": "x"}', "\x00\x00"])
def test_a_torn_last_line_is_as_if_never_written(tmp_path: Path, torn: str) -> None:
    Answers(tmp_path).add(reply("one", key="k1"))
    with (tmp_path / ANSWERS).open("a") as file:
        file.write(torn)
    answers = Answers(tmp_path)
    assert "k1" in answers
    assert "k2" not in answers
    assert (tmp_path / ANSWERS).read_text().endswith(torn)  # looking changes nothing: another run may be writing
    answers.add(reply("three", key="k3"))
    again = Answers(tmp_path)
    assert ("k1" in again, "k2" in again, "k3" in again) == (True, False, True)


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    answers = Answers(tmp_path)
    answers.add(reply("one", key="k1"), reply("two", key="k2"))
    path = tmp_path / ANSWERS
    path.write_text(path.read_text().replace('"key": "k2"', '"kex": "k2"'))
    with pytest.raises(InputError, match=r"answers\.jsonl:2: damaged: remove the line"):
        Answers(tmp_path)


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path: Path) -> None:
    with hold(tmp_path / "work"), pytest.raises(InputError, match="in use by another run"), hold(tmp_path / "work"):
        pytest.fail("held twice")
    with hold(tmp_path / "work"):
        pass


def test_servers_that_count_no_tokens() -> None:
    body = {"choices": [{"message": {"content": "x"}}]}
    assert Reply.of("k", Completion.model_validate(body)).usage == Usage()
    usage = {"usage": {"prompt_tokens": None, "completion_tokens": 3}}
    assert Bill().plus(Reply.of("k", Completion.model_validate(body | usage)).usage) == Bill(1, 0, 3)


def test_cost_is_for_prices_per_million() -> None:
    assert Bill(1, 2_000_000, 500_000).cost(0.25, 2.0) == pytest.approx(1.5)
