"""A simulation's report -> a folder, each file whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path

from pydantic import TypeAdapter

from penchant.simulate import plots
from penchant.simulate.collab import Played
from penchant.simulate.markdown import render
from penchant.simulate.report import Report

REPORT = TypeAdapter(Report)


def write_report(report: Report, sessions: Iterable[Played], folder: Path) -> None:
    """Write ``report.md``, ``report.json``, the plots, and ``sessions.csv`` with every session.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / "report.json", lambda part: part.write_bytes(REPORT.dump_json(report, indent=1)))
    for name, draw in plots.PLOTS.items():
        _write(folder / name, partial(draw(report).savefig, format="png", dpi=plots.DPI))
    _write(folder / "sessions.csv", partial(_write_sessions, sessions))
    _write(folder / "report.md", lambda part: part.write_text(render(report), encoding="utf-8"))


def _write_sessions(sessions: Iterable[Played], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Played)])
        table.writeheader()
        for played in sessions:
            table.writerow(asdict(played) | {"tokens": round(played.tokens, 1)})


def _write(path: Path, write: Callable[[Path], object]) -> None:
    part = path.with_name(f".part-{path.name}")
    write(part)
    part.replace(path)
