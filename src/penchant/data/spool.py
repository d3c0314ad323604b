"""Windows on disk: a scratch file read in any order, Parquet, and a folder that appears whole or not at all."""

from __future__ import annotations

import shutil
from array import array
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from penchant.errors import InputError
from penchant.files import whole
from penchant.types import LabelledWindow

ROW_GROUP = 10_000
"""Most rows in a row group of Parquet, and so in memory while writing."""

_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
_RULE = pa.struct([("condition", pa.string()), ("action", pa.string()), ("confidence", pa.float64())])

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("turns", pa.list_(_TURN)),
        ("language", pa.string()),
        ("source", pa.string()),
        ("conversation", pa.string()),
        ("turn", pa.int64()),
        ("licence", pa.string()),
        ("preferences", pa.list_(_RULE)),
        ("optional", pa.list_(_RULE)),
        ("tags", pa.list_(pa.string())),
        ("labeller", pa.string()),
    ]
)
"""The columns of a Parquet file of labelled windows: the fields of ``LabelledWindow``, in its order."""


class Spool:
    """Labelled windows by number, in a scratch file without a name in ``folder``, which is gone when closed."""

    def __init__(self, folder: Path) -> None:
        self._file = TemporaryFile(dir=folder)  # noqa: SIM115 - closed with the spool
        self._ends = array("q", [0])

    def append(self, window: LabelledWindow) -> None:
        """Add a window; its number is how many there were before.

        Raises:
            InputError: a field does not fit into Parquet.
        """
        try:
            pa.array([window.model_dump()], pa.struct(SCHEMA))
            line = window.model_dump_json().encode()
        except (UnicodeError, OverflowError, pa.ArrowException) as error:
            raise InputError(
                f"window {window.id} cannot be stored, mend or leave it out: {str(error)[:200]}"
            ) from error
        self._file.seek(self._ends[-1])
        self._file.write(line)
        self._ends.append(self._ends[-1] + len(line))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> LabelledWindow:
        start, end = self._ends[number : number + 2]
        self._file.seek(start)
        return LabelledWindow.model_validate_json(self._file.read(end - start))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def write_parquet(path: Path, windows: Iterable[LabelledWindow]) -> None:
    """Write windows as ``records.read_windows`` and ``datasets`` read them; the file appears whole or not at all."""
    rows = (window.model_dump() for window in windows)
    with whole(path) as part, pq.ParquetWriter(part, SCHEMA, compression="zstd") as out:
        while group := list(islice(rows, ROW_GROUP)):
            out.write_table(pa.Table.from_pylist(group, SCHEMA))


@contextmanager
def replacing(folder: Path, manifest: str, files: Collection[str]) -> Iterator[Path]:
    """Give a new folder to write to, which takes the place of ``folder`` when the block ends without an error.

    Args:
        folder: where the new one goes; it may hold an earlier one, which is removed then.
        manifest: the file that every earlier one holds.
        files: the others it may hold.

    Raises:
        InputError: there is a file of that name, or a folder with anything else in it.
    """
    folder = folder.resolve()
    part, replaced = (folder.with_name(f".{kind}-{folder.name}") for kind in ("part", "replaced"))
    if replaced.exists() and not folder.exists():
        replaced.rename(folder)  # the last run was killed between its two renames
    if folder.exists():
        _check_replaceable(folder, manifest, files)
    for left_over in (part, replaced):
        shutil.rmtree(left_over, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        if folder.exists():
            folder.rename(replaced)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)


def _check_replaceable(folder: Path, manifest: str, files: Collection[str]) -> None:
    if not folder.is_dir():
        raise InputError(f"{folder} is a file: give another name, or move it away")
    names = {path.name for path in folder.iterdir()}
    if names and manifest not in names:
        raise InputError(f"{folder} is not empty and holds no {manifest}: give another folder, or move it away")
    if strangers := sorted(names - {manifest, *files}):
        raise InputError(f"{folder} would be replaced, and {strangers[0]} in it with it: move that file away")
