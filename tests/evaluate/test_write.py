"""From outcomes to the files of a report."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from matplotlib.figure import Figure

pytest.importorskip("torch")

from penchant.evaluate import plots
from penchant.evaluate.assess import assess
from penchant.evaluate.loss import WindowLoss
from penchant.evaluate.markdown import render
from penchant.evaluate.pages import plain
from penchant.evaluate.report import SCHEMA, Report, build_report, describe
from penchant.evaluate.run import Outcome, Timing
from penchant.evaluate.specs import Kind, Spec
from penchant.evaluate.write import REPORT, write_report
from penchant.types import Extraction, LabelledWindow
from tests.evaluate.made import JUDGE, answer, rule, window

FILES = {"report.json", "report.md", "reliability.png", "precision_recall.png", "by_tag.png"}
INVALID = Extraction(valid=False, error="cannot reach the | server")

GOLD = [
    *(window([rule("use tabs")], [rule("be short")], id=f"pos-{i}", tags=("explicit",)) for i in range(15)),
    *(window(id=f"neg-{i}", tags=("none",), language="de") for i in range(5)),
]
FOUND = [answer(*gold.rules) for gold in GOLD]


def make(tmp_path: Path, gold: Sequence[LabelledWindow], **found: Sequence[Extraction]) -> Report:
    path = tmp_path / "gold.jsonl"
    path.write_text("the data\n")
    outcomes = [
        Outcome(Spec(name, Kind.endpoint, "m"), tuple(results), Timing(20.0, 0.04, 0.5, 10))
        for name, results in found.items()
    ]
    header = describe(path, gold, "penchant evaluate extraction gold.jsonl", JUDGE, "a fake")
    return build_report(header, gold, outcomes, JUDGE)


def test_a_perfect_extractor_gets_full_marks(tmp_path: Path) -> None:
    (result,) = make(tmp_path, GOLD, perfect=FOUND).extractors
    for scores in (result.semantic, result.exact):
        assert {scores.precision.value, scores.recall.value, scores.f1.value, scores.perfect.value} == {1}
    assert (result.valid.value, result.noise.value, result.duplicates.value) == (1, 0, 0)
    assert result.curve.highest_recall == 1
    assert result.calibration.ece == pytest.approx(0.1)  # it is always right and says 0.9
    assert result.semantic.neutral == 15
    for part in result.slices:
        assert part.scores.perfect.value == 1
        assert part.scores.f1.value in (1, None)


def test_noise_duplicates_and_validity_are_shares_of_what_they_should_be(tmp_path: Path) -> None:
    found = [*FOUND[:15], answer(rule("sing")), answer(rule("sing"), rule("sing")), INVALID, *FOUND[18:]]
    (result,) = make(tmp_path, GOLD, noisy=found).extractors
    assert result.noise.value == 2 / 5
    assert result.duplicates.value == 1 / 33
    assert result.valid.value == 19 / 20
    assert result.errors == (("cannot reach the | server", 1),)


def test_the_loss_is_the_mean_over_tokens_not_windows() -> None:
    losses = (WindowLoss(9.0, 1), None, WindowLoss(3.0, 3), *[None] * 17)
    result = assess(GOLD, Outcome(Spec("a", Kind.untuned), tuple(FOUND), losses=losses), JUDGE)
    assert result.loss
    assert result.loss.value == 3
    assert assess(GOLD, Outcome(Spec("a", Kind.untuned), tuple(FOUND)), JUDGE).loss is None


def test_close_calls_are_the_nearest_to_the_threshold(tmp_path: Path) -> None:
    gold = [window([rule("a b c d"), rule("e f", "for mail")])]
    found = [answer(rule("a b c x"), rule("a y z"), rule("e f", "when coding"))]
    (result,) = make(tmp_path, gold, one=found).extractors
    assert [(call.extracted.action, call.gold.action) for call in result.accepted] == [("a b c x", "a b c d")]
    assert [(call.extracted.action, call.gold.action) for call in result.rejected] == [("e f", "e f")]  # not "a y z"
    assert result.accepted[0].action >= 0.6
    assert result.rejected[0].action == pytest.approx(1)  # their conditions are at odds
    many = [window([rule("a b c")], id=str(number)) for number in range(50)]
    found = [answer(rule(f"a {number} z")) for number in range(50)]
    (result,) = make(tmp_path, many, one=found).extractors
    cosines = [call.action for call in result.rejected]
    assert len(cosines) == 20
    assert cosines == sorted(cosines, reverse=True)
    assert cosines[0] < 0.6


def test_the_files_hold_the_report(tmp_path: Path) -> None:
    silent = [Extraction()] * len(GOLD)
    report = make(tmp_path, GOLD, perfect=FOUND, silent=silent, broken=[INVALID] * len(GOLD))
    write_report(report, tmp_path / "out" / "deep")
    assert {path.name for path in (tmp_path / "out" / "deep").iterdir()} == FILES
    data = json.loads((tmp_path / "out" / "deep" / "report.json").read_text(encoding="utf-8"))
    assert data["schema"] == SCHEMA
    assert data["header"]["windows"] == 20
    assert data["header"]["negatives"] == 5
    assert re.fullmatch(r"[0-9a-f]{64}", data["header"]["sha256"])
    assert {"python", "torch", "openvino-genai"} <= data["header"]["versions"].keys()
    assert [w["semantic"]["verdicts"] for w in data["extractors"][0]["windows"][14:16]] == [["right", "neutral"], []]
    assert data["extractors"][0]["windows"][0]["extraction"]["preferences"][0]["action"] == "use tabs"
    assert data["gold"][0]["preferences"][0]["action"] == "use tabs"
    assert [(c["first"], c["second"]) for c in data["comparisons"]] == [
        ("perfect", "silent"),
        ("perfect", "broken"),
        ("silent", "broken"),
    ]
    assert data["comparisons"][0]["only_first"] == [f"pos-{i}" for i in range(15)]
    assert data["comparisons"][0]["p_value"] == 2 / 2**15
    assert len(data["comparisons"][2]["only_first"]) == 5  # an answer that cannot be read is not silence
    assert REPORT.validate_json((tmp_path / "out" / "deep" / "report.json").read_bytes()) == report
    for name in FILES - {"report.json", "report.md"}:
        assert (tmp_path / "out" / "deep" / name).read_bytes().startswith(b"\x89PNG")


def test_the_text_says_what_matters(tmp_path: Path) -> None:
    text = render(make(tmp_path, GOLD, perfect=FOUND, broken=[INVALID] * len(GOLD)))
    for words in (
        "not comparable | 99.7% | 37.7% | 97.5%",
        "0.1611",
        "judge: a fake, cosine of actions at least 0.6",
        "command: `penchant evaluate extraction gold.jsonl`",
        "20 windows, 5 of them negative",
        "| perfect | 100.0% (100.0 to 100.0) |",
        "broken: 20 of 20 windows.",
        r"20 × cannot reach the \| server",
        "confidence ≥ 0.90: precision 100.0%, recall 100.0%",
        "never reached; the highest recall is 0.0%",
        "perfect but not broken: pos-0",
        "not measured",
        "| 20.00 | 40 ms | 500 ms | 10 |",
    ):
        assert words in text, words
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}) == 1, table


@pytest.mark.parametrize(
    ("gold", "found"),
    [
        pytest.param(GOLD[-5:], [Extraction()] * 5, id="no positives, silent"),
        pytest.param(GOLD[-5:], [answer(rule("sing"))] * 5, id="no positives, noisy"),
        pytest.param(GOLD, [INVALID] * 20, id="all invalid"),
        pytest.param(GOLD, [Extraction()] * 20, id="nothing extracted"),
        pytest.param(GOLD[:1], FOUND[:1], id="one window"),
        pytest.param([window([], [rule("be short")])], [answer(rule("be short"))], id="optional only"),
        pytest.param([window([rule("use tabs")])], [answer(rule("use tabs"))], id="no tags"),
    ],
)
def test_odd_data_makes_a_whole_report(
    tmp_path: Path, gold: Sequence[LabelledWindow], found: Sequence[Extraction]
) -> None:
    report = make(tmp_path, gold, one=found)
    write_report(report, tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    assert REPORT.validate_json((tmp_path / "out" / "report.json").read_bytes()) == report
    assert "nan" not in (tmp_path / "out" / "report.md").read_text(encoding="utf-8").casefold()


def test_no_text_is_markup(tmp_path: Path) -> None:
    evil = "<script>|`x`\n# **bold** [a](b) $1 日本語 🦀"
    gold = [window([rule(evil, evil)], id=evil, tags=(evil,), language="x|y")]
    found = [answer(rule(evil, evil), rule(evil + " and more", evil))]
    report = make(tmp_path, gold, **{f"_$a$|{evil}": found, "$x": [INVALID], "plain": found})
    write_report(report, tmp_path / "out")
    text = (tmp_path / "out" / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in text.replace(r"\<script\>", "")
    assert "日本語 🦀" in text
    assert r"\#" in plain(evil)
    assert "\n" not in plain(evil)


def test_a_new_report_replaces_an_old_one_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_report(make(tmp_path, GOLD, old=FOUND), out)
    (out / "notes.txt").write_text("mine")
    write_report(make(tmp_path, GOLD, new=FOUND), out)
    assert {path.name for path in out.iterdir()} == FILES | {"notes.txt"}
    assert "| new |" in (out / "report.md").read_text(encoding="utf-8")


def test_a_crash_leaves_whole_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_report(make(tmp_path, GOLD, old=FOUND), out)
    before = (out / "by_tag.png").read_bytes()

    def crash(self: Figure, path: Path, **options: object) -> None:
        Path(path).write_bytes(b"half of a plo")
        raise OSError("no space left")

    monkeypatch.setattr(Figure, "savefig", crash)
    with pytest.raises(OSError, match="no space left"):
        write_report(make(tmp_path, GOLD, new=FOUND), out)
    assert (out / "by_tag.png").read_bytes() == before
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "report.json").read_text(encoding="utf-8"))["extractors"][0]["spec"]["name"] == "new"


def test_each_extractor_has_its_panel_and_its_line(tmp_path: Path) -> None:
    report = make(tmp_path, GOLD, a=FOUND, b=FOUND, c=FOUND, d=[Extraction()] * len(GOLD))
    panels = plots.draw_reliability(report).axes
    assert [axes.get_title().splitlines()[0] for axes in panels] == ["a", "b", "c", "d"]
    (axes,) = plots.draw_precision_recall(report).axes
    legend = axes.get_legend()
    assert legend
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "c", "d"]
    assert axes.get_xlabel()
    assert axes.get_ylabel()
    left, right = plots.draw_tags(report).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["explicit (15)", "none (5)"]
    assert left.get_xlabel() != right.get_xlabel()
