"""Files of windows: JSON Lines or Parquet in, JSON Lines out (docs/annotation.md, Record)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.parquet as pq
from pydantic import ValidationError

from penchant.errors import InputError, first_fault
from penchant.files import whole
from penchant.types import Window

AnyWindow = TypeVar("AnyWindow", bound=Window)


def read_windows(path: Path, kind: type[AnyWindow]) -> Iterator[AnyWindow | InputError]:
    """Yield the windows of a file one at a time; a record that is not one yields an error with file, line and field.

    Args:
        path: ``.parquet``, or JSON Lines whatever its name.
        kind: ``Window`` (fields of labels are ignored) or ``LabelledWindow``.

    Raises:
        InputError: the file cannot be read at all, or holds nothing.
    """
    if not path.is_file():
        raise InputError(f"no such file: {path}")
    empty = True
    for number, record in _parquet(path) if path.suffix == ".parquet" else _lines(path):
        empty = False
        yield record if isinstance(record, InputError) else _validate(f"{path}:{number}", record, kind)
    if empty:
        raise InputError(f"{path} is empty: give one window a line (docs/annotation.md, Record)")


def load_windows(path: Path, kind: type[AnyWindow]) -> list[AnyWindow]:
    """Return all windows of a file.

    Raises:
        InputError: the first record that is not one, with file, line and field; or the file cannot be read.
    """
    windows = []
    for window in read_windows(path, kind):
        if isinstance(window, InputError):
            raise window
        windows.append(window)
    return windows


def write_windows(path: Path, windows: Iterable[Window]) -> int:
    """Write JSON Lines and return their number; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with whole(path) as part, part.open("w", encoding="utf-8", errors="replace") as out:  # a lone surrogate: no UTF-8
        for window in windows:
            out.write(json.dumps(window.model_dump(mode="json"), ensure_ascii=False) + "\n")
            count += 1
    return count


def _validate(where: str, record: Any, kind: type[AnyWindow]) -> AnyWindow | InputError:
    if not isinstance(record, dict):
        return InputError(f"{where}: a record must be a JSON object (docs/annotation.md, Record)")
    if kind is Window:
        record = {key: value for key, value in record.items() if key in Window.model_fields}
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        return InputError(f"{where}: {first_fault(error, 'record')} (docs/annotation.md, Record)")


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                yield number, InputError(f"{path}:{number}: not JSON: {str(error)[:200]}")


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    try:
        with pq.ParquetFile(path) as file:
            rows = (row for batch in file.iter_batches(batch_size=1000) for row in batch.to_pylist())
            yield from enumerate(rows, 1)
    except (OSError, ValueError) as error:  # pyarrow's errors are these
        raise InputError(f"{path} is not a Parquet file that can be read: {error}") from error
