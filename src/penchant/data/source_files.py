"""Files of rows, on disk or on the hub -> their rows, one at a time, whatever the file's size.

Files are opened, and JSON Lines read, by the streaming of ``datasets``. Of the other forms that would hold a whole file
in memory: here Parquet is read in small batches, and a JSON array item by item.
"""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import ijson
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_dataset, load_dataset_builder
from datasets.exceptions import DatasetsError
from datasets.utils.file_utils import xopen

from penchant.data.source_formats import Source
from penchant.errors import InputError
from penchant.extract.reader import read_values

_BATCH_ROWS = 256
_BUFFER = 1 << 20
_SPACE = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"


def local_files(source: Source, path: Path) -> list[str]:
    """Return a source's files in a folder, or the one file that ``path`` is.

    Raises:
        InputError: there are none.
    """
    name = PurePosixPath(source.files).name
    if path.is_file():
        return [str(path)]
    if not path.is_dir():
        raise InputError(f"{source.name}: no such file or folder: {path}")
    files = sorted(map(str, path.rglob(name)))
    if not files:
        raise InputError(f"{source.name}: no {name} in {path}: give the files of {source.hub}")
    return files


def hub_files(source: Source) -> list[str]:
    """Return the addresses of a source's files on the hub, at one revision of its repository.

    Raises:
        InputError: the hub cannot be reached, or refuses.
    """
    try:
        builder = load_dataset_builder(source.hub, data_files=source.files)
    except (OSError, ValueError, DatasetsError) as error:
        raise InputError(
            f"{source.name}: {source.hub} cannot be read from the hub: {_reason(error)}. Accept its licence on "
            f"https://huggingface.co/datasets/{source.hub} and run `hf auth login`, or give its files by --path"
        ) from error
    return [str(file) for files in builder.config.data_files.values() for file in files]


def read_rows(file: str, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    """Yield the rows of a file with their numbers, from 1, and an error in place of each that cannot be read.

    Where the file breaks, an error is the last of them.

    Args:
        file: ``.parquet``, ``.jsonl`` or ``.json`` (an array), on disk or on the hub.
        columns: what need be read of a row; there may be more.
    """
    read = _READERS.get(PurePosixPath(file).suffix.lower())
    number = 0
    try:
        if read is None:
            raise InputError(f"not a file that can be read: its name must end in {', '.join(_READERS)}")
        for number, row in read(file, columns):
            yield number, row
    except InputError as error:
        yield number + 1, error
    except (OSError, ValueError, DatasetsError, pa.ArrowException, ijson.JSONError) as error:
        yield number + 1, InputError(f"the file cannot be read from here on: {_reason(error)}")


def _read_parquet(file: str, columns: Sequence[str]) -> Iterator[tuple[int, Any]]:
    # Without read-ahead, which would bring the whole file into memory; `datasets` always reads ahead.
    with xopen(file, "rb") as stream, pq.ParquetFile(stream, pre_buffer=False, buffer_size=_BUFFER) as parquet:
        present = [column for column in columns if column in parquet.schema_arrow.names]
        batches = parquet.iter_batches(batch_size=_BATCH_ROWS, columns=present, use_threads=False)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)


def _read_lines(file: str, _: Sequence[str]) -> Iterator[tuple[int, Any]]:
    # As text: to `datasets`, JSON is columns, and one line that is broken or typed differently ends the whole file.
    lines = load_dataset(
        "text",
        data_files=glob.escape(file),
        split="train",
        streaming=True,
        chunksize=_BUFFER,
        encoding_errors="replace",
    )
    for number, line in enumerate(lines, 1):
        if not line["text"].strip():
            continue
        try:
            yield number, json.loads(line["text"])
        except (ValueError, RecursionError) as error:
            yield number, InputError(f"not JSON: {_reason(error)}")


def _read_array(file: str, _: Sequence[str]) -> Iterator[tuple[int, Any]]:
    with xopen(file, "rb") as stream:
        head = stream.read(64)
        start = head.find(b"[")
        if start < 0 or head[:start].removeprefix(_BOM).strip(_SPACE):
            raise InputError("not a JSON array: it must begin with [ (a file of JSON Lines is named .jsonl)")
        stream.seek(start)
        yield from enumerate(read_values(stream, 1), 1)


_READERS: Mapping[str, Callable[[str, Sequence[str]], Iterator[tuple[int, Any]]]] = {
    ".parquet": _read_parquet,
    ".jsonl": _read_lines,
    ".json": _read_array,
}


def _reason(error: Exception) -> str:
    """Return an error's first line; ijson's errors about bytes that are not UTF-8 come as bytes."""
    text = error.args[0] if error.args else ""
    text = text.decode(errors="replace") if isinstance(text, bytes) else str(error)
    return next(iter(text.strip().splitlines()), type(error).__name__)[:200].rstrip(".")
