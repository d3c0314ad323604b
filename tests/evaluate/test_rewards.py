"""How well rewards are read: against hand-counted cases, with fakes for the reader and the embedding model."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penchant.data.pairs import LABELS, RatedExchange, is_apart
from penchant.errors import InputError
from penchant.evaluate import rewards_pages
from penchant.evaluate.pages import describe
from penchant.evaluate.rewards import (
    REPORT,
    RewardsReport,
    ascii_share,
    build_report,
    choose_zone,
    collect,
    commonest_sign,
    load_exchanges,
    score,
    signs,
    slices,
)
from penchant.learn.reward import keyword_reward
from tests.memory.conftest import WordEmbedder

EMBED = WordEmbedder().embed

REACTIONS = [
    {"text": "thanks, that works", "reward": 0.8, "label": "praise"},
    {"text": "that's wrong", "reward": -0.6, "label": "correction"},
    {"text": "très étrange, je ne comprends pas", "reward": -0.4, "label": "confusion"},
    {"text": "ええと 次", "reward": 0.0, "label": "neutral"},
    {"text": "and with a total row?", "reward": 0.4, "label": "progress"},
]


def exchange(name: str, *reactions: dict[str, Any]) -> dict[str, Any]:
    return {"id": name, "ask": f"sum a column {name}", "answer": "use sum", "reactions": list(reactions or REACTIONS)}


def rated(*names: str) -> list[RatedExchange]:
    return [RatedExchange.model_validate(exchange(name)) for name in names]


def perfect(asked: Sequence[tuple[str, str]]) -> np.ndarray:
    """Know the label of every reaction."""
    labels = {str(each["text"]): LABELS.index(str(each["label"])) for each in REACTIONS}
    return np.array([20.0 * np.eye(len(LABELS))[labels[reaction]] for _, reaction in asked])


def deaf(asked: Sequence[tuple[str, str]]) -> np.ndarray:
    return np.zeros((len(asked), len(LABELS)))


def report(read: Any = perfect, measured: int = 12, others: int = 5, **options: Any) -> RewardsReport:
    return build_report(
        describe("penchant", [], {}),
        rated(*(f"m{number}" for number in range(measured))),
        rated(*(f"o{number}" for number in range(others))),
        read,
        EMBED,
        **options,
    )


def test_signs_have_a_dead_zone() -> None:
    assert signs(np.array([-1, -0.051, -0.05, 0, 0.05, 0.051]), 0.05).tolist() == [0, 0, 1, 1, 1, 2]
    assert signs(np.array([-1e-9, 0, 1e-9]), 0.0).tolist() == [0, 1, 2]


def test_the_dead_zone_with_the_most_signs_right() -> None:
    rewards = np.array([0.0, 0.0, 0.9, -0.8])
    assert choose_zone(np.array([0.2, -0.1, 0.6, -0.4]), rewards) == pytest.approx(0.3)
    assert choose_zone(np.array([0.2, 0.1, 0.6, 0.4]), np.ones(4)) == 0
    assert choose_zone(np.array([0.2, -0.1]), np.zeros(2)) == 0.2


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, -0.3, 0.0, 0.02, 0.5]), st.sampled_from([-0.4, 0.0, 0.04, 0.3])), min_size=1
    )
)
def test_no_dead_zone_is_better(cases: list[tuple[float, float]]) -> None:
    values, rewards = (np.array(column) for column in zip(*cases, strict=True))

    def right(zone: float) -> int:
        return int((signs(values, zone) == signs(rewards, 0.05)).sum())

    assert right(choose_zone(values, rewards)) == max(map(right, (0.0, 0.01, 0.1, 0.4, 0.7, 1.0)))


def test_scores_by_hand() -> None:
    rewards = np.array([-0.5, -0.4, 0.0, 0.9, 0.8, 0.7])
    values = np.array([-0.6, 0.2, 0.01, 0.5, 0.4, -0.2])
    found = score(["a", "a", "b", "b", "c", "c"], rewards, values, 0.05)
    assert found.accuracy.value == 4 / 6
    assert found.balanced.value == pytest.approx((1 / 2 + 1 + 2 / 3) / 3)
    ranks, others = np.array([1, 2, 3, 6, 5, 4]), np.array([1, 4, 3, 6, 5, 2])
    assert found.spearman.value == pytest.approx(np.corrcoef(ranks, others)[0, 1])
    assert found.spearman.low is None  # of three exchanges
    one_sign = score(["a", "b"], np.array([0.5, 0.6]), np.array([0.5, -0.5]), 0.05)
    assert one_sign.balanced.value == 0.5
    assert score(["a", "b"], np.array([0.5, 0.6]), np.zeros(2), 0.05).spearman.value is None


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.floats(-1, 1), st.sampled_from([-0.5, 0.0, 0.3])), min_size=2, max_size=12
    ),
    st.randoms(),
)
def test_the_order_of_reactions_does_not_matter(cases: list[tuple[int, float, float]], rng: Any) -> None:
    def scored() -> list[float | None]:
        names, rewards, values = zip(*cases, strict=True)
        found = score([str(name) for name in names], np.array(rewards), np.array(values), 0.05)
        return [found.accuracy.value, found.balanced.value, found.spearman.value]

    first = scored()
    rng.shuffle(cases)
    assert scored() == pytest.approx(first)


def test_intervals_are_over_exchanges() -> None:
    names = [f"e{number}" for number in range(12) for _ in range(4)]
    rewards = np.tile([-0.5, 0.0, 0.4, 0.8], 12)
    values = rewards + np.random.default_rng(0).normal(0, 0.3, 48)
    found = score(names, rewards, values, 0.05)
    assert found.spearman.low is not None
    assert found.spearman.high is not None
    assert found.spearman.value is not None
    assert -1 <= found.spearman.low < found.spearman.value < found.spearman.high <= 1
    assert found == score(names, rewards, values, 0.05)


@pytest.mark.parametrize(
    ("text", "share"),
    [("plain — “words” 1, 2!", 1.0), ("", 1.0), ("42 🦀", 1.0), ("étés", 0.5), ("日本語", 0.0), ("ok да", 0.5)],
)
def test_the_share_of_ascii_letters(text: str, share: float) -> None:
    assert ascii_share(text) == share


def test_parts_of_the_data() -> None:
    parts = slices(collect(rated("a", "b"), EMBED))
    assert {name: int(mask.sum()) for name, mask in parts.items()} == {
        "all": 10,
        "only ASCII letters": 6,
        "half of the letters or more ASCII": 2,
        "fewer letters ASCII": 2,
        **{f"label: {label}": 2 for label in LABELS if label not in ("constraint", "topic_shift")},
    }


def test_a_perfect_reader(tmp_path: Path) -> None:
    found = report()
    assert REPORT.validate_json(REPORT.dump_json(found)) == found
    keywords, reader, constant = found.estimators
    assert [each.name for each in found.estimators] == ["keywords", "reader", "always the commonest sign"]
    everything = reader.parts[0].scores
    assert everything.accuracy.value == everything.balanced.value == 1
    assert 0.03 < reader.dead_zone < 0.36  # between neutral and confusion
    assert everything.spearman.value is not None
    assert everything.spearman.value > 0.9
    assert keywords.parts[0].scores.accuracy.value == 3 / 5  # thanks, wrong, and nothing where there is nothing
    assert constant.parts[0].scores.accuracy.value == 2 / 5
    assert constant.parts[0].scores.spearman.value is None
    assert (found.labels.accuracy.value, found.labels.commonest_accuracy.value) == (1, 1 / 5)
    assert (found.exchanges, found.reactions, found.chosen_on) == (12, 60, 25)
    assert reader.confusion == ((24, 0, 0), (0, 12, 0), (0, 0, 24))
    assert found.cases[3].label_read == "neutral"
    shown = collect(rated("m0"), EMBED)[0].shown
    assert found.cases[0].estimates["keywords"] == keyword_reward(shown.reaction, shown.similarity) > 0
    text = rewards_pages.render(found)
    assert "nan" not in text
    assert "60 reactions to 12 answers" in text
    assert "Right: 100.0% (100.0 to 100.0); always praise: 20.0%" in text
    assert "25 reactions to" in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    rewards_pages.draw(found).savefig(tmp_path / "plot.png")


def test_a_reader_that_knows_nothing() -> None:
    reader = report(deaf).estimators[1].parts[0].scores
    assert reader.spearman.value is None
    assert reader.accuracy.value in (1 / 5, 2 / 5)


@pytest.mark.parametrize(("given_zone", "expected"), [(0.0, 0.0), (0.9, 0.9)])
def test_a_given_dead_zone_counts_for_all_estimates(given_zone: float, expected: float) -> None:
    for others in (0, 5):
        found = report(measured=3, others=others, dead_zone=given_zone)
        assert [each.dead_zone for each in found.estimators] == [expected, expected, 0.05]


def test_without_other_exchanges_nothing_is_chosen(tmp_path: Path) -> None:
    found = report(measured=1, others=0)
    assert [each.dead_zone for each in found.estimators] == [0.05] * 3
    assert REPORT.validate_json(REPORT.dump_json(found)) == found
    assert "reactions to\n  other answers" not in rewards_pages.render(found)
    rewards_pages.draw(found).savefig(tmp_path / "plot.png")


def test_the_commonest_sign_is_that_of_the_others() -> None:
    assert commonest_sign(collect(rated("a"), EMBED)) == 0  # two of each: the first
    angry = [RatedExchange.model_validate(exchange("o", REACTIONS[1]))]
    found = build_report(describe("c", [], {}), rated("m"), angry, perfect, EMBED)
    assert found.cases[0].estimates["always the commonest sign"] == -1
    assert found.labels.commonest == "correction"


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_exchanges_kept_apart(tmp_path: Path) -> None:
    names = [f"e{number}" for number in range(40)]
    first, second = lines(tmp_path / "a", *map(exchange, names[:20])), lines(tmp_path / "b", *map(exchange, names[20:]))
    measured, others = load_exchanges([first, second], apart=True)
    assert [each.id for each in measured] == [name for name in names if is_apart(name)]
    assert len(measured) + len(others) == 40
    everything, nothing = load_exchanges([first, second], apart=False)
    assert (len(everything), nothing) == (40, [])
    seen = next(name for name in names if not is_apart(name))
    with pytest.raises(InputError, match="none of the 1 exchanges is kept apart: give --all"):
        load_exchanges([lines(tmp_path / "c", exchange(seen))], apart=True)
    with pytest.raises(InputError, match=r"b:1: id 'e20' is that of .*b:1 too"):
        load_exchanges([second, second], apart=False)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("nonsense", "file:2: RatedExchange: Invalid JSON"),
        ('{"id": "x", "ask": "a", "answer": "b"}', "file:2: reactions: Field required"),
        ('{"id": "x", "ask": "a", "answer": "b", "reactions": []}', "file:2: reactions: "),
        (json.dumps(exchange("x", {**REACTIONS[0], "reward": 2})), r"file:2: reactions\.0\.reward: "),
        (json.dumps(exchange("x", {**REACTIONS[0], "label": "joy"})), r"file:2: reactions\.0\.label: "),
        (json.dumps(exchange("x", {"text": "t", "reward": 0})), r"file:2: reactions\.0\.label: Field required"),
    ],
)
def test_bad_exchanges_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = lines(tmp_path / "file", exchange("good"))
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_exchanges([path], apart=False)
    assert "\n" not in str(caught.value)
