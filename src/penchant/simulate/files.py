"""A simulation's report -> a folder, each file whole or not at all."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path

from pydantic import TypeAdapter

from penchant.evaluate.pages import write_pages
from penchant.files import whole
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
    with whole(folder / "sessions.csv") as part:
        _write_sessions(sessions, part)
    figures = {name: draw(report) for name, draw in plots.PLOTS.items()}
    write_pages(folder, REPORT.dump_json(report, indent=1), render(report), figures)


def _write_sessions(sessions: Iterable[Played], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [field.name for field in fields(Played)])
        table.writeheader()
        for played in sessions:
            table.writerow(asdict(played) | {"tokens": round(played.tokens, 1)})
