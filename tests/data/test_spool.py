from __future__ import annotations

from pathlib import Path

import datasets
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penchant.data.records import load_windows
from penchant.data.spool import SCHEMA, Spool, replacing, write_parquet
from penchant.errors import InputError
from penchant.types import LabelledWindow, Turn
from tests.data.windows import ANY_WINDOW, balanced, window


@settings(max_examples=60)
@given(windows=st.lists(ANY_WINDOW, min_size=1, max_size=5))
def test_windows_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, windows: list[LabelledWindow]
) -> None:
    folder = tmp_path_factory.mktemp("spool")
    with Spool(folder) as spool:
        for each in windows:
            spool.append(each)
        assert len(spool) == len(windows)
        assert [spool[number] for number in reversed(range(len(spool)))] == windows[::-1]
        write_parquet(folder / "all.parquet", (spool[number] for number in range(len(spool))))
    assert load_windows(folder / "all.parquet", LabelledWindow) == windows
    assert [path.name for path in folder.iterdir()] == ["all.parquet"]


def test_windows_may_be_added_after_one_was_read(tmp_path: Path) -> None:
    with Spool(tmp_path) as spool:
        for each in balanced(3):
            spool.append(each)
            assert spool[0] == balanced(1)[0]
        assert spool[2] == balanced(3)[2]


@pytest.mark.parametrize(
    "update", [{"turn": 2**63}, {"turns": (Turn(role="user", content="half a pair \ud83d"),)}, {"source": "\udc00"}]
)
def test_what_parquet_cannot_hold_is_refused_by_name_and_the_rest_goes_on(
    tmp_path: Path, update: dict[str, object]
) -> None:
    with Spool(tmp_path) as spool:
        with pytest.raises(InputError, match="window odd cannot be stored"):
            spool.append(window("odd").model_copy(update=update))
        spool.append(window("even"))
        assert [spool[number].id for number in range(len(spool))] == ["even"]


def test_parquet_has_small_row_groups_and_a_schema_that_does_not_depend_on_the_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penchant.data.spool.ROW_GROUP", 4)
    write_parquet(tmp_path / "a.parquet", balanced(10))
    write_parquet(tmp_path / "b.parquet", [window("no-rules-no-tags")])
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        assert [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)] == [4, 4, 2]
        assert file.schema_arrow == SCHEMA
    assert pq.read_schema(tmp_path / "b.parquet") == SCHEMA
    assert SCHEMA.names == list(LabelledWindow.model_fields)


def test_datasets_reads_the_parquet(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", balanced(3, tags=("none",)))
    rows = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "a.parquet"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [LabelledWindow.model_validate(row) for row in rows] == balanced(3, tags=("none",))


def test_a_parquet_that_fails_midway_is_not_there(tmp_path: Path) -> None:
    def broken() -> object:
        yield window("a")
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        write_parquet(tmp_path / "a.parquet", broken())
    assert not (tmp_path / "a.parquet").exists()


def made(folder: Path, text: str = "{}") -> None:
    with replacing(folder, "mix.json", ("train.parquet",)) as new:
        (new / "mix.json").write_text(text)


def test_a_folder_appears_when_it_is_done(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "mix"
    with replacing(folder, "mix.json", ()) as new:
        (new / "mix.json").write_text("{}")
        assert not folder.exists()
    assert (folder / "mix.json").read_text() == "{}"
    assert [path.name for path in folder.parent.iterdir()] == ["mix"]


def test_an_empty_folder_and_an_earlier_mix_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "mix").mkdir()
    made(tmp_path / "mix", "first")
    (tmp_path / "mix" / "train.parquet").touch()
    made(tmp_path / "mix", "second")
    assert [(path.name, path.read_text()) for path in (tmp_path / "mix").iterdir()] == [("mix.json", "second")]


def half_made(folder: Path, error: BaseException) -> None:
    with replacing(folder, "mix.json", ()) as new:
        (new / "mix.json").write_text("half")
        raise error


@pytest.mark.parametrize("error", [InputError("bad"), KeyboardInterrupt()])
def test_a_failure_leaves_the_earlier_mix_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    made(tmp_path / "mix", "first")
    with pytest.raises(type(error)):
        half_made(tmp_path / "mix", error)
    assert [path.name for path in tmp_path.iterdir()] == ["mix"]
    assert (tmp_path / "mix" / "mix.json").read_text() == "first"


def test_what_a_killed_run_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / ".part-mix").mkdir()
    (tmp_path / ".part-mix" / "train.parquet").touch()
    made(tmp_path / "mix")
    assert [path.name for path in tmp_path.iterdir()] == ["mix"]
    assert [path.name for path in (tmp_path / "mix").iterdir()] == ["mix.json"]


def test_a_run_killed_between_its_renames_loses_nothing(tmp_path: Path) -> None:
    made(tmp_path / "mix", "first")
    (tmp_path / "mix").rename(tmp_path / ".replaced-mix")
    with pytest.raises(OSError, match="again"):
        half_made(tmp_path / "mix", OSError("again"))
    assert (tmp_path / "mix" / "mix.json").read_text() == "first"


@pytest.mark.parametrize(
    ("names", "named"), [(["README.md"], "mix.json"), (["mix.json", "thesis.docx"], "thesis.docx")]
)
def test_somebody_elses_files_are_not_touched(tmp_path: Path, names: list[str], named: str) -> None:
    (tmp_path / "mix").mkdir()
    for name in names:
        (tmp_path / "mix" / name).touch()
    with pytest.raises(InputError, match=named):
        made(tmp_path / "mix")
    assert sorted(path.name for path in (tmp_path / "mix").iterdir()) == sorted(names)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "mix").touch()
    with pytest.raises(InputError, match="mix is a file"):
        made(tmp_path / "mix")
