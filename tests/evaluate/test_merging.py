"""How right merging is: against hand-counted cases, with fakes for the reader and the embedding model."""

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

from penchant.data.pairs import RELATIONS, Profile, RulePair
from penchant.errors import InputError
from penchant.evaluate import merging_pages
from penchant.evaluate.merging import (
    CONTRADICTS,
    REPORT,
    SAME,
    UNRELATED,
    above,
    build_report,
    load_pairs,
    merged,
    score,
    score_relation,
    shortcut,
)
from penchant.evaluate.pages import describe
from tests.memory.conftest import WordEmbedder

EMBED = WordEmbedder().embed


def record(
    id: str, relation: str, old: str = "use tabs", new: str = "use tabs please", condition: str = "when coding"
) -> dict[str, Any]:
    rules = {"old": {"condition": "when coding", "action": old}, "new": {"condition": condition, "action": new}}
    return {"id": id, "relation": relation, **rules}


def pair(*values: str) -> RulePair:
    return RulePair.model_validate(record(*values))


def reader(chances: dict[str, tuple[float, float, float]]) -> Any:
    """Return a reader that knows the probabilities of newer notes by a word in them."""

    def read(asked: Sequence[tuple[str, str]]) -> np.ndarray:
        rows = [next(row for word, row in chances.items() if word in new) for _, new in asked]
        return np.log(np.maximum(rows, 1e-12))

    return read


def test_a_relation_counts_from_a_probability_on() -> None:
    chances = np.array([[0.9, 0.1, 0.0], [0.45, 0.5, 0.05], [0.2, 0.1, 0.7], [0.5, 0.5, 0.0]])
    assert above(chances, 0.5).tolist() == [SAME, CONTRADICTS, UNRELATED, SAME]
    assert above(chances, 0.97).tolist() == [SAME, UNRELATED, UNRELATED, SAME]


def test_scores_by_hand() -> None:
    gold, said = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 2, 0, 2, 1])
    same = score_relation(gold, said, SAME)
    assert (same.said, same.gold, same.precision.value, same.recall.value) == (3, 3, 2 / 3, 2 / 3)
    contradicts = score_relation(gold, said, CONTRADICTS)
    assert (contradicts.precision.value, contradicts.recall.value) == (0, 0)
    assert score("m", gold, said).accuracy.value == 3 / 6
    matter = score_relation(gold, said, SAME, CONTRADICTS)
    assert (matter.said, matter.gold, matter.precision.value, matter.recall.value) == (4, 4, 3 / 4, 3 / 4)
    assert score_relation(np.array([2]), np.array([2]), SAME).precision.value is None


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=20), st.randoms())
def test_the_order_of_pairs_does_not_matter(cases: list[tuple[int, int]], rng: Any) -> None:
    first = score("m", *(np.array(column) for column in zip(*cases, strict=True)))
    rng.shuffle(cases)
    second = score("m", *(np.array(column) for column in zip(*cases, strict=True)))
    for name in ("matter", "same", "contradicts"):
        mine, other = getattr(first, name), getattr(second, name)
        assert (mine.said, mine.precision.value, mine.recall.value) == (
            other.said,
            other.precision.value,
            other.recall.value,
        )


@given(st.lists(st.lists(st.floats(0, 1), min_size=3, max_size=3), min_size=1, max_size=10))
def test_less_is_said_at_higher_thresholds(rows: list[list[float]]) -> None:
    chances = np.array(rows)
    said = [int((above(chances, at) != UNRELATED).sum()) for at in (0.5, 0.7, 0.9, 0.99)]
    assert said == sorted(said, reverse=True)


def test_merging_itself_filters_by_cosine_and_by_its_own_threshold() -> None:
    pairs = [
        pair("exact", "same", "use tabs", "Use TABS"),
        pair("sure", "same", "use tabs", "use tabs one"),
        pair("unsure", "same", "use tabs", "use tabs two"),
        pair("contrary", "contradicts", "use tabs", "use spaces three"),
        pair("far", "contradicts", "use tabs", "zzz four", "at lunch"),
    ]
    notes = [(each.old.note, each.new.note) for each in pairs]
    rows = [(0.0, 0.95, 0.05), (0.5, 0.41, 0.09), (0.69, 0.0, 0.31), (0.1, 0.62, 0.28), (0.0, 0.99, 0.01)]
    chances = dict(zip(notes, map(np.array, rows), strict=True))
    old, new = EMBED([first for first, _ in notes]), EMBED([second for _, second in notes])
    assert merged(pairs, old, new, chances).tolist() == [SAME, SAME, UNRELATED, CONTRADICTS, UNRELATED]
    assert merged(pairs, old, new, None).tolist() == [SAME, UNRELATED, UNRELATED, UNRELATED, UNRELATED]


def test_a_shortcut_is_judged_on_the_other_half() -> None:
    pairs = [pair(f"p{number}", RELATIONS[number % 2]) for number in range(60)]
    telling = shortcut(pairs, [number % 2 for number in range(60)])
    assert [RELATIONS[said] for said in telling] == [each.relation for each in pairs]
    blind = shortcut(pairs, [0] * 60)
    assert len(set(blind.tolist())) <= 2
    assert shortcut(pairs[:1], ["a"]).tolist() == [UNRELATED]  # nothing is known of the other half
    unheard = shortcut(pairs, list(range(60)))
    assert unheard.tolist() == blind.tolist()  # a feature never seen: the commonest of all


def make(tmp_path: Path, *records: dict[str, Any]) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return path


RECORDS = [
    *(record(f"same-{n}", "same", "use tabs", f"use tabs yes {n}") for n in range(8)),
    *(record(f"not-{n}", "contradicts", "use tabs", f"use spaces no {n}") for n in range(8)),
    *(record(f"other-{n}", "unrelated", "use tabs", f"be brief so {n}", "for mail") for n in range(8)),
    record("wrong", "contradicts", "use tabs", "use tabs yes | never"),
]
READER = {"yes": (0.97, 0.02, 0.01), "no": (0.02, 0.935, 0.045), "so": (0.05, 0.05, 0.9)}


def test_the_whole_report(tmp_path: Path) -> None:
    pairs = load_pairs(make(tmp_path, *RECORDS))
    report = build_report(describe("penchant", [tmp_path / "pairs.jsonl"], {}), pairs, reader(READER), EMBED, 0.9)
    assert REPORT.validate_json(REPORT.dump_json(report)) == report
    methods = {method.name: method for method in report.methods}
    best = methods["reader, probability ≥ 0.9"]
    assert best.accuracy.value == 24 / 25
    assert best.same.precision.value == 8 / 9
    assert best.same.recall.value == best.contradicts.precision.value == 1
    assert best.contradicts.recall.value == 8 / 9
    assert (best.matter.said, best.matter.precision.value, best.matter.recall.value) == (17, 1, 1)
    assert best.same.precision.low is not None
    assert methods["merge()"].accuracy.value == 24 / 25
    assert methods["the same words"].same.said == 0
    assert methods["cosine ≥ 0.8 is the same"].same.said >= 8
    equal = methods["equal conditions or not"]
    assert equal.accuracy.value is not None
    assert equal.accuracy.value > 8 / 25  # another condition gives the unrelated ones away
    assert [point.least for point in report.operating] == [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.97, 0.99]
    assert [point.contradicts.said for point in report.operating] == [8] * 6 + [0] * 2
    assert report.confusion == ((8, 0, 0), (1, 8, 0), (0, 0, 8))
    assert report.unseen[0] == 0
    text = merging_pages.render(report)
    assert "25 pairs of an older and a newer rule: 8 same, 9 contradicts, 8 unrelated." in text
    assert "### contradicts, taken for same: 1" in text
    assert r"use tabs yes \| never" in text
    assert "| **0.9** | 17 |" in text
    assert "nan" not in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table
    merging_pages.draw(report).savefig(tmp_path / "plot.png")


def test_another_threshold_is_in_the_table(tmp_path: Path) -> None:
    pairs = load_pairs(make(tmp_path, *RECORDS))
    report = build_report(describe("penchant", [], {}), pairs, reader(READER), EMBED, 0.96)
    assert 0.96 in [point.least for point in report.operating]
    assert report.methods[0].name == "reader, probability ≥ 0.96"
    assert report.methods[0].contradicts.said == 0
    assert "| **0.96** |" in merging_pages.render(report)


def test_one_pair_makes_a_whole_report(tmp_path: Path) -> None:
    report = build_report(describe("c", [], {}), load_pairs(make(tmp_path, RECORDS[0])), reader(READER), EMBED, 0.9)
    assert REPORT.validate_json(REPORT.dump_json(report)) == report
    assert "nan" not in merging_pages.render(report)
    merging_pages.draw(report).savefig(tmp_path / "plot.png")


def holder(*actions: str) -> tuple[str, Profile]:
    rules = [{"id": f"r{n}", "condition": "when coding", "action": action} for n, action in enumerate(actions)]
    queries = [{"id": "q", "text": "a query", "relevant": []}]
    found = {"id": "ann", "persona": "a person", "preferences": rules, "queries": queries}
    return "profiles.jsonl:1", Profile.model_validate(found)


def test_rules_that_all_hold_are_counted_when_merging_loses_them(tmp_path: Path) -> None:
    """The third takes the place of both before it."""
    ann = holder("use tabs so", "use blue tabs so", "use tabs yes", "zebra so")
    pairs = load_pairs(make(tmp_path, *RECORDS))
    report = build_report(describe("c", [], {}), pairs, reader(READER), EMBED, 0.9, [ann, holder("use tabs so")])
    assert REPORT.validate_json(REPORT.dump_json(report)) == report
    found = report.losses
    assert found is not None
    assert (found.users, found.rules) == (2, 5)
    assert {(each.old, each.new) for each in found.lost} == {
        ("When coding, use blue tabs so.", "When coding, use tabs yes."),
        ("When coding, use tabs so.", "When coding, use tabs yes."),
    }
    assert [taken for least, taken in found.taken if least in (0.5, 0.95)] == [2, 2]
    text = merging_pages.render(report)
    assert "The 5 rules of 2 users, one after the other into an empty memory: 2 are lost" in text
    quiet = build_report(describe("c", [], {}), pairs, reader(READER), EMBED, 0.9, [holder("use tabs so", "tabs so")])
    assert quiet.losses is not None
    assert quiet.losses.lost == ()


def test_a_user_s_rule_that_no_memory_could_hold_is_named() -> None:
    pairs = [RulePair.model_validate(RECORDS[0])]
    with pytest.raises(InputError, match=r"profiles\.jsonl:1: preferences: action: "):
        build_report(describe("c", [], {}), pairs, reader(READER), EMBED, 0.9, [holder("long " * 60)])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "pairs.jsonl:2: RulePair: Invalid JSON"),
        ("7", "pairs.jsonl:2: RulePair: "),
        ('{"id": "x"}', "pairs.jsonl:2: old: Field required"),
        (json.dumps(record("x", "like")), "pairs.jsonl:2: relation: "),
        (json.dumps(record("x", "same", "")), "pairs.jsonl:2: old.action: "),
        (json.dumps(record("x", "same", " ")), r"pairs.jsonl:2: old\.action: "),
        (json.dumps(record("x", "same", new="long " * 60)), r"pairs.jsonl:2: new\.action: "),
        (json.dumps(record("x", "same", condition="when " * 60)), r"pairs.jsonl:2: new\.condition: "),
        (json.dumps(RECORDS[0]), "pairs.jsonl:2: id 'same-0' is that of .*pairs.jsonl:1 too"),
    ],
)
def test_bad_pairs_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = make(tmp_path, RECORDS[0])
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(InputError, match=message) as caught:
        load_pairs(path)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_pairs(tmp_path / "absent")
    with pytest.raises(InputError, match="is empty"):
        load_pairs(make(tmp_path))
