from __future__ import annotations

from typing import Any

import pytest
import yaml

from penchant.data.card import render_card
from penchant.data.mix_report import MixReport, MixSettings, PartCount, SourceCount, SplitCount


def report(**fields: Any) -> MixReport:
    parts = (PartCount(name="chats.jsonl", read=1300, malformed=40, surplus=20, train=1200, evaluation=40),)
    sources = (
        SourceCount(
            source="wildchat",
            positive=400,
            negative=840,
            licences={"ODC-BY": 1240},
            labellers={"teacher": 1200, "annotator": 40},
        ),
    )
    return MixReport(**{
        "command": "penchant data mix chats.jsonl",
        "settings": MixSettings(),
        "train": SplitCount(positive=390, negative=810),
        "evaluation": SplitCount(positive=10, negative=30),
        "shortfall": 0,
        "parts": parts,
        "all_parts": PartCount.total(parts),
        "sources": sources,
        "contaminated": {},
        "common_ngrams": 0,
        "languages": {"en": 1239, "zh": 1},
        "licences": {"ODC-BY": 1240},
        "labellers": {"teacher": 1200, "annotator": 40},
        "tags": {},
    } | fields)  # fmt: skip


def front_matter(card: str) -> dict[str, Any]:
    return yaml.safe_load(card.removeprefix("---\n").split("\n---\n")[0])


def table(card: str, title: str) -> list[list[str]]:
    section = card.split(f"## {title}\n")[1].split("\n## ")[0]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if line[:1] == "|"]


def test_the_front_matter_is_the_hubs() -> None:
    assert front_matter(render_card(report(), "mix")) == {
        "pretty_name": "mix",
        "license": "odc-by",
        "language": ["en", "zh"],
        "task_categories": ["text-generation"],
        "size_categories": ["1K<n<10K"],
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "train.parquet"},
                    {"split": "evaluation", "path": "evaluation.parquet"},
                ],
            }
        ],
    }


@pytest.mark.parametrize(
    ("licences", "expected"),
    [
        ({"Apache-2.0": 9}, ("apache-2.0", None)),
        ({"Apache-2.0": 9, "MIT": 1}, ("other", "mixed")),
        ({"LMSYS-Chat-1M Dataset License Agreement": 9}, ("other", "lmsys-chat-1m dataset license agreement")),
    ],
)
def test_only_licences_of_the_hub_are_named_as_its_own(
    licences: dict[str, int], expected: tuple[str, str | None]
) -> None:
    front = front_matter(render_card(report(licences=licences), "mix"))
    assert (front["license"], front.get("license_name")) == expected


@pytest.mark.parametrize(
    ("windows", "size"), [(999, "n<1K"), (1000, "1K<n<10K"), (564_000, "100K<n<1M"), (10_000_000, "n>10M")]
)
def test_the_size_is_the_hubs(windows: int, size: str) -> None:
    card = render_card(report(train=SplitCount(positive=windows), evaluation=SplitCount()), "mix")
    front = front_matter(card)
    assert front["size_categories"] == [size]
    assert [file["split"] for file in front["configs"][0]["data_files"]] == ["train"]


def test_what_is_made_of_several_is_told_where_there_are_two_splits() -> None:
    for evaluation, told in ((SplitCount(positive=10), True), (SplitCount(), False)):
        card = render_card(report(evaluation=evaluation), "mix")
        assert ("what is made of several windows or wishes is in train" in card) is told


def test_languages_without_a_code_stay_out_of_the_front_matter() -> None:
    card = render_card(report(languages={"en": 5, "klingon": 4, "": 3, "EN": 1}), "mix")
    assert front_matter(card)["language"] == ["en"]
    assert ["klingon", "4"] in table(card, "Languages")


def test_the_tables_hold_the_numbers() -> None:
    card = render_card(report(contaminated={"dev": 3}, common_ngrams=2, shortfall=760, tags={"fact": 1200}), "mix")
    assert "32.3% of them hold a rule" in card
    assert table(card, "Sources")[2:] == [
        ["wildchat", "1,240", "400", "840", "ODC-BY", "teacher 1,200, annotator 40"],
        ["all", "1,240", "400", "840", "", "teacher 1,200, annotator 40"],
    ]
    stages = table(card, "From the inputs to the mix")
    assert stages[0][:3] == ["input", "read", "malformed"]
    assert stages[2] == ["chats.jsonl", "1,300", "40", "0", "0", "0", "0", "20", "1,200", "40"]
    assert stages[3] == ["all", *stages[2][1:]]
    assert "760 windows short of the limit" in card
    assert table(card, "Contamination")[2:] == [["dev", "3"]]
    assert table(card, "Kinds and domains")[2:] == [["fact", "1,200"]]
    assert [row[0] for row in table(card, "Settings")[2:]] == list(MixSettings.model_fields)
    assert "\n    penchant data mix chats.jsonl\n" in card


def test_hostile_names_break_no_table_and_no_front_matter() -> None:
    name = "a | b\n---\n## <img src=x> [x](y) `"
    card = render_card(report(tags={name: 3}, languages={name: 2}, contaminated={name: 1}, licences={name: 9}), name)
    assert front_matter(card)["pretty_name"] == " ".join(name.split())
    assert front_matter(card)["license_name"] == " ".join(name.split()).casefold()
    assert card.count("\n## ") == 7
    assert all(
        line.replace("\\|", "").count("|") == 3 for line in card.splitlines() if "img" in line and line[0] == "|"
    )
    assert "<img" not in card.split("\n---\n", 1)[1].replace("\\<", "")
