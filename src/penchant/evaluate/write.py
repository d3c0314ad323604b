"""A report -> a folder with ``report.json``, ``report.md`` and the plots, each file whole or not at all."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from penchant.evaluate import plots
from penchant.evaluate.markdown import render
from penchant.evaluate.report import Report

REPORT = TypeAdapter(Report)


def write_report(report: Report, folder: Path) -> None:
    """Write a report; files of an earlier one are replaced, and others stay.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "report.json", lambda part: part.write_bytes(REPORT.dump_json(report, indent=1)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in a script that the plots' font lacks
        for name, draw in plots.PLOTS.items():
            _write(folder / name, partial(draw(report).savefig, format="png", dpi=plots.DPI))
    _write(folder / "report.md", lambda part: part.write_text(render(report), encoding="utf-8"))


def _write(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f".part-{path.name}")
    write(part)
    part.replace(path)
