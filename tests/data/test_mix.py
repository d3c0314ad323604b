from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.data.decontaminate import user_ngrams
from penchant.data.deduplicate import reading
from penchant.data.mix import Part, build_mix
from penchant.data.mix_report import MixReport, MixSettings
from penchant.data.records import load_windows, read_windows
from penchant.errors import InputError
from penchant.types import LabelledWindow, Turn, Window
from tests.data.windows import balanced, prose, window

FILES = ["README.md", "contaminated.jsonl", "evaluation.parquet", "mix.json", "rejected.jsonl", "train.parquet"]


def mix(
    folder: Path,
    *parts: Iterable[LabelledWindow | InputError],
    evaluation_sets: dict[str, list[Window]] | None = None,
    **fields: object,
) -> MixReport:
    named = [Part(f"part{number}", windows) for number, windows in enumerate(parts)]
    return build_mix(named, MixSettings(**fields), folder, evaluation_sets or {})


def windows_of(folder: Path) -> dict[str, list[LabelledWindow]]:
    return {path.stem: load_windows(path, LabelledWindow) for path in sorted(folder.glob("*.parquet"))}


def ids(folder: Path) -> set[str]:
    return {each.id for windows in windows_of(folder).values() for each in windows}


def lines(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_mix_is_a_folder_that_datasets_loads(tmp_path: Path) -> None:
    there = balanced(60, conversation="") + balanced(60, "v")
    report = mix(tmp_path / "mix", there, evaluation_share=0.2)
    assert sorted(path.name for path in (tmp_path / "mix").iterdir()) == FILES
    loaded = datasets.load_dataset(str(tmp_path / "mix"), cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {
        "train": report.train.total,
        "evaluation": report.evaluation.total,
    }
    by_id = {each.id: each for each in there}
    for windows in windows_of(tmp_path / "mix").values():
        assert all(by_id[each.id] == each for each in windows)
    assert MixReport.model_validate_json((tmp_path / "mix" / "mix.json").read_text()) == report


def test_every_window_is_accounted_for(tmp_path: Path) -> None:
    leaked = window("leaked", prose("dev", 30))
    first = [*balanced(40), window("same", prose("w1")), leaked, InputError("f:9: not JSON")]
    second = [*balanced(40, "v"), window("rival", prose("w0"), ["something else"]), window("like", prose("v1") + " ok")]
    report = mix(
        tmp_path / "mix", first, second, evaluation_sets={"dev": [window("d", prose("dev", 30))], "none": [window("n")]}
    )
    one, two = report.parts
    assert (one.read, one.malformed, one.duplicates, one.conflicts, one.contaminated) == (43, 1, 1, 0, 1)
    assert (two.read, two.duplicates, two.conflicts, two.near_duplicates) == (42, 1, 1, 1)
    assert report.contaminated == {"dev": 1, "none": 0}
    for row in (*report.parts, report.all_parts):
        ended = row.malformed + row.duplicates + row.near_duplicates + row.contaminated + row.surplus
        assert row.read == ended + row.train + row.evaluation
    assert report.all_parts.train == report.train.total == len(windows_of(tmp_path / "mix")["train"])
    assert lines(tmp_path / "mix" / "rejected.jsonl") == [{"input": "part0", "error": "f:9: not JSON"}]
    assert [line["id"] for line in lines(tmp_path / "mix" / "contaminated.jsonl")] == ["leaked"]


def test_the_most_trusted_label_of_a_text_is_kept(tmp_path: Path) -> None:
    labellers = ("synthesis", "teacher", "annotator", "recovered")
    exact = [window(f"exact-{by}", "Use  tabs", [f"rule of {by}"], labeller=by) for by in labellers]
    near = [window(f"near-{by}", f"{prose('near', 80)} {i}", labeller=by) for i, by in enumerate(labellers)]
    report = mix(tmp_path / "mix", exact, near, [window("none")], positive_share=0.34, evaluation_share=0)
    assert ids(tmp_path / "mix") == {"exact-annotator", "near-annotator", "none"}
    assert [part.conflicts for part in report.parts] == [3, 0, 0]
    assert [part.duplicates + part.near_duplicates for part in report.parts] == [3, 3, 0]


def test_contrastive_twins_survive(tmp_path: Path) -> None:
    distractor = prose("long distractor", 150)
    twins = [
        window("tabs", f"{distractor} use tabs from now on", ["indent with tabs"]),
        window("spaces", f"{distractor} use spaces from now on", ["indent with spaces"]),
        window("nothing", f"{distractor} use spaces or tabs from now on"),
    ]
    copies = [
        twins[0].model_copy(update={"id": "copy", "turns": (Turn(role="user", content=f"{distractor} use tabs"),)})
    ]
    report = mix(tmp_path / "mix", twins, copies, balanced(4, "n")[1:3], evaluation_share=0, positive_share=0.4)
    assert {"tabs", "spaces", "nothing"} <= ids(tmp_path / "mix")
    assert report.parts[1].near_duplicates == 1


@settings(max_examples=15)
@given(seed=st.integers(0, 99), share=st.floats(0.2, 0.8), data=st.randoms(use_true_random=False))
def test_the_order_changes_nothing_and_mixing_a_mix_neither(
    tmp_path_factory: pytest.TempPathFactory, seed: int, share: float, data: random.Random
) -> None:
    folder = tmp_path_factory.mktemp("mix")
    there = balanced(30, conversation="one") + balanced(30, "v") + balanced(30, "u", conversation="two")
    chosen = {"seed": seed, "positive_share": share, "evaluation_share": 0.3}
    first = mix(folder / "a", there, **chosen)
    mix(folder / "b", data.sample(there, len(there)), **chosen)
    written = [{path.name: path.read_bytes() for path in (folder / name).glob("*.parquet")} for name in ("a", "b")]
    assert written[0] == written[1]
    assert "train.parquet" in written[0]
    again = mix(folder / "c", *windows_of(folder / "a").values(), **chosen)
    assert windows_of(folder / "c") == windows_of(folder / "a")
    assert (again.train, again.evaluation, again.sources) == (first.train, first.evaluation, first.sources)
    train = mix(folder / "d", windows_of(folder / "a")["train"], **chosen | {"evaluation_share": 0.0})
    assert train.all_parts.read == train.train.total + train.all_parts.surplus


def test_a_mix_is_mixed_again_in_its_place(tmp_path: Path) -> None:
    first = mix(tmp_path / "mix", balanced(60), evaluation_share=0.1)
    before = windows_of(tmp_path / "mix")
    parts = [read_windows(tmp_path / "mix" / f"{split}.parquet", LabelledWindow) for split in ("train", "evaluation")]
    again = mix(tmp_path / "mix", *parts, evaluation_share=0.1)
    assert windows_of(tmp_path / "mix") == before
    assert again.train == first.train


@settings(max_examples=15)
@given(data=st.randoms(use_true_random=False), ngram=st.integers(3, 8))
def test_no_ngram_of_an_evaluation_set_survives(
    tmp_path_factory: pytest.TempPathFactory, data: random.Random, ngram: int
) -> None:
    dev = [window(f"d{number}", prose(f"d{number}", 15)) for number in range(10)]
    words = [each.turns[0].content.split() for each in dev]
    leaky = []
    for number in range(60):
        stolen = data.choice(words)
        start, length = data.randrange(15), data.randrange(1, 12)
        text = f"{prose(number, 6)} {' '.join(stolen[start : start + length]).upper()}! {prose(-number, 6)}"
        leaky.append(window(f"l{number}", text, ["a rule"] if number % 2 else ()))
    folder = tmp_path_factory.mktemp("mix") / "mix"
    report = mix(
        folder, leaky, balanced(6, "n"), evaluation_sets={"dev": dev}, ngram=ngram, near_duplicate_threshold=0.99
    )
    known = set().union(*(user_ngrams(each.turns, ngram) for each in dev))
    assert report.common_ngrams == 0
    assert not any(
        user_ngrams(each.turns, ngram) & known for windows in windows_of(folder).values() for each in windows
    )
    noted = lines(folder / "contaminated.jsonl")
    assert all(line["ngram"] in known for line in noted)
    assert len(noted) == report.contaminated["dev"] == report.all_parts.contaminated


def test_no_conversation_is_torn(tmp_path: Path) -> None:
    there = [window(f"w{i}", rules=["r"] if i % 3 == 0 else (), conversation=f"c{i // 4}") for i in range(120)]
    mix(tmp_path / "mix", there, evaluation_windows=20)
    sides = windows_of(tmp_path / "mix")
    assert 17 <= len(sides["evaluation"]) <= 20
    assert not {w.conversation for w in sides["train"]} & {w.conversation for w in sides["evaluation"]}


def test_train_is_shuffled_over_parts_and_labels(tmp_path: Path) -> None:
    mix(tmp_path / "mix", balanced(300), balanced(300, "v"), evaluation_share=0)
    train = windows_of(tmp_path / "mix")["train"]
    for trait in (lambda each: each.id[0] == "v", lambda each: each.is_positive):
        halves = [sum(map(trait, half)) for half in (train[:300], train[300:])]
        assert min(halves) > 0.35 * sum(halves)


def test_the_report_says_what_is_in_the_mix(tmp_path: Path) -> None:
    report = mix(
        tmp_path / "mix",
        balanced(30, language="de", source="lmsys", licence="MIT", tags=("none", "none"), labeller="teacher"),
        balanced(9, "s", source="us", licence="Apache-2.0", labeller="synthesis"),
        limit=1000,
    )
    assert [(row.source, row.count, row.positive, row.licences, row.labellers) for row in report.sources] == [
        ("lmsys", 30, 10, {"MIT": 30}, {"teacher": 30}),
        ("us", 9, 3, {"Apache-2.0": 9}, {"synthesis": 9}),
    ]
    assert report.shortfall == 961
    assert report.tags == {"none": 30}
    assert report.languages == {"de": 30, "en": 9}
    assert report.licences == {"MIT": 30, "Apache-2.0": 9}
    assert report.total.total == 39


def test_no_evaluation_file_for_no_evaluation_window(tmp_path: Path) -> None:
    mix(tmp_path / "mix", balanced(30), evaluation_share=0)
    assert not (tmp_path / "mix" / "evaluation.parquet").exists()
    loaded = datasets.load_dataset(str(tmp_path / "mix"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]


def test_hostile_windows_are_rejected_by_name_and_the_rest_is_mixed(tmp_path: Path) -> None:
    odd = [
        window("surrogate", "half \ud83d"),
        window("control", "\x01"),
        window("huge").model_copy(update={"turn": 2**70}),
        InputError("f:3: turns: Field required"),
    ]
    fine = [
        window("same-id", "one text"),
        window("same-id", "another text", ["r"]),
        window("🙂\n|", "📎" * 9999, ["s"]),
    ]
    report = mix(tmp_path / "mix", [*odd, *fine], balanced(9, "n"), evaluation_share=0)
    errors = [line["error"] for line in lines(tmp_path / "mix" / "rejected.jsonl")]
    assert [report.parts[0].malformed, len(errors)] == [4, 4]
    assert report.all_parts.near_duplicates == report.all_parts.duplicates == 0
    assert all(name in error for name, error in zip(["surrogate", "control", "huge", "f:3"], errors, strict=True))
    assert Counter(reading(each.turns) for each in windows_of(tmp_path / "mix")["train"]).most_common(1)[0][1] == 1


@pytest.mark.parametrize("records", [[], [InputError("f:1: not JSON")]])
def test_an_input_without_windows_is_named_and_nothing_is_written(
    tmp_path: Path, records: list[LabelledWindow | InputError]
) -> None:
    with pytest.raises(InputError, match="the input part1 holds no window"):
        mix(tmp_path / "mix", balanced(9), records)
    assert list(tmp_path.iterdir()) == []


def test_no_input_and_inputs_of_one_name_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one input"):
        mix(tmp_path / "mix")
    with pytest.raises(InputError, match="two inputs are named a"):
        build_mix([Part("a", balanced(9)), Part("a", balanced(9))], MixSettings(), tmp_path / "mix")


def test_a_part_that_breaks_leaves_the_earlier_mix(tmp_path: Path) -> None:
    def breaking() -> Iterator[LabelledWindow]:
        yield window("a")
        raise OSError("the disk is gone")

    mix(tmp_path / "mix", balanced(30))
    before = windows_of(tmp_path / "mix")
    with pytest.raises(OSError, match="the disk is gone"):
        mix(tmp_path / "mix", balanced(30, "v"), breaking())
    assert windows_of(tmp_path / "mix") == before
    assert [path.name for path in tmp_path.iterdir()] == ["mix"]


def test_the_folder_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    def unread() -> Iterator[LabelledWindow]:
        raise AssertionError
        yield

    (tmp_path / "thesis.docx").touch()
    with pytest.raises(InputError, match="is not empty"):
        mix(tmp_path, unread())


@pytest.mark.parametrize(
    "fields",
    [
        {"positive_share": 0}, {"positive_share": 1}, {"limit": 0}, {"evaluation_share": 1}, {"evaluation_windows": -1},
        {"near_duplicate_threshold": 1}, {"ngram": 1}, {"common_windows": 0}, {"seeds": 1},
    ],
)  # fmt: skip
def test_settings_out_of_range_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(fields))):
        MixSettings(**fields)


def test_every_setting_is_described() -> None:
    assert all(field.description for field in MixSettings.model_fields.values())
