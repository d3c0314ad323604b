"""A report -> a folder with ``report.json``, ``report.md`` and the plots, each file whole or not at all."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter

from penchant.evaluate import plots
from penchant.evaluate.markdown import render
from penchant.evaluate.pages import write_pages
from penchant.evaluate.report import Report

REPORT = TypeAdapter(Report)


def write_report(report: Report, folder: Path) -> None:
    """Write a report; files of an earlier one are replaced, and others stay.

    Raises:
        OSError: the folder cannot be written.
    """
    figures = {name: draw(report) for name, draw in plots.PLOTS.items()}
    write_pages(folder, REPORT.dump_json(report, indent=1), render(report), figures)
