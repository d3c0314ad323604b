"""What reports share: what was measured with what, and pages for people."""

from __future__ import annotations

import platform
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from importlib import metadata
from pathlib import Path

from matplotlib.figure import Figure

from penchant.evaluate.metrics import Estimate
from penchant.files import whole
from penchant.models.fetch import sha256
from penchant.text import clean_text

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's palette without its yellow, which is too light for lines."""

DPI = 120

_PACKAGES = ("penchant", "numpy", "scipy", "openvino", "bm25s")
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~#$&])")


@dataclass(frozen=True)
class DataFile:
    """A file that was read, and its hash."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Source:
    """When, by which command, on which files and with which models something was measured."""

    date: str
    command: str
    files: tuple[DataFile, ...]
    models: Mapping[str, str]
    versions: Mapping[str, str]


def describe(command: str, files: Sequence[Path], models: Mapping[str, str]) -> Source:
    """Describe a measurement of today."""
    return Source(
        date=date.today().isoformat(),
        command=command,
        files=tuple(DataFile(str(path), sha256(path)) for path in files),
        models=dict(models),
        versions=installed(_PACKAGES),
    )


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of Python and of those packages that are installed."""
    versions = {"python": platform.python_version()}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def title_lines(title: str, source: Source) -> Iterator[str]:
    """Yield the head of a page."""
    yield f"# {title}"
    yield ""
    yield f"- date: {source.date}"
    yield f"- command: `{source.command.replace('`', '')}`"
    yield from (f"- data: {plain(file.path)}, sha256 {file.sha256}" for file in source.files)
    yield from (f"- {name}: {plain(model)}" for name, model in source.models.items())
    yield f"- versions: {', '.join(f'{name} {version}' for name, version in source.versions.items())}"
    yield ""


def table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Iterator[str]:
    """Yield the lines of a table, and an empty line."""
    titles = list(columns)
    yield f"| {' | '.join(titles)} |"
    yield f"|{' --- |' * len(titles)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def percent(estimate: Estimate, signed: bool = False) -> str:
    """Show a share with its interval."""
    if estimate.value is None:
        return "–"
    sign = "+" if signed else ""
    value = f"{estimate.value:{sign}.1%}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({100 * estimate.low:{sign}.1f} to {100 * estimate.high:{sign}.1f})"


def decimal(estimate: Estimate, signed: bool = False) -> str:
    """Show a number with its interval."""
    if estimate.value is None:
        return "–"
    sign = "+" if signed else ""
    value = f"{estimate.value:{sign}.3f}"
    if estimate.low is None or estimate.high is None:
        return value
    return f"{value} ({estimate.low:{sign}.3f} to {estimate.high:{sign}.3f})"


def plain(text: str, limit: int = 300) -> str:
    """Make text of any origin safe inside a table: one line, not too long, and nothing in it is markup."""
    line = " ".join(clean_text(text).split())
    return _SPECIAL.sub(r"\\\1", line if len(line) <= limit else f"{line[:limit]}…") or "(empty)"


def write_pages(folder: Path, data: bytes, text: str, plots: Mapping[str, Figure]) -> None:
    """Write ``report.json``, plots and ``report.md``; files of an earlier report are replaced, and others stay.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with whole(folder / "report.json") as part:
        part.write_bytes(data)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # a name in a script that the plots' font lacks
        for name, figure in plots.items():
            with whole(folder / name) as part:
                figure.savefig(part, format="png", dpi=DPI)
    with whole(folder / "report.md") as part:
        part.write_text(text, encoding="utf-8")
