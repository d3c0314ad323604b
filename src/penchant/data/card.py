"""The README of a mix: a data card as the Hugging Face hub reads it."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from penchant.data.mix_report import MixReport, PartCount

_SIZES = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
# identifiers of the hub's list that sources of dialogues bear; any other licence is "other" there
_LICENCES = {"apache-2.0", "mit", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "odc-by", "odbl", "unknown"}

_HEAD = """\
# {name}

{total:,} dialogue windows ({train:,} to train on, {evaluation:,} to evaluate with), labelled with the preferences that
the user expresses in them: rules of a `condition`, an `action` and a `confidence`. {share:.1%} of them hold a rule.

A row holds `turns` (`role` and `content`, oldest first, ending with the user), `preferences` (the rules that a good
extractor must find), `optional` (those it may find), and where it comes from: `source`, `conversation`, `turn` (the
index there of the window's last one), `licence`, `language`, `labeller` and `tags`. Windows of one conversation are all
in the same split{several}.
"""
_SEVERAL = """; what is made of several windows or wishes is in train, and so is every conversation with one of them"""


def render_card(report: MixReport, name: str) -> str:
    """Write the data card of a mix called ``name``: YAML front matter and Markdown."""
    front = yaml.safe_dump(_front_matter(report, _line(name)), sort_keys=False, allow_unicode=True, width=math.inf)
    total = report.total.total
    sections = (
        _HEAD.format(
            name=_cell(name),
            total=total,
            train=report.train.total,
            evaluation=report.evaluation.total,
            share=report.total.positive / total,
            several=_SEVERAL if report.evaluation.total else "",
        ),
        f"## Sources\n\n{_sources(report)}",
        f"## From the inputs to the mix\n\n{_stages(report)}",
        f"## Contamination\n\n{_contamination(report)}",
        f"## Languages\n\n{_counts('language', report.languages)}",
        f"## Licences\n\n{_counts('licence', report.licences)}",
        f"## Kinds and domains\n\n{_counts('tag', report.tags)}",
        f"## Settings\n\n{_settings(report)}",
    )
    return f"---\n{front}---\n\n" + "\n".join(sections)


def _front_matter(report: MixReport, name: str) -> dict[str, Any]:
    """Return the hub's metadata; a split without windows has no file."""
    licences = [_line(licence).casefold() for licence in report.licences]
    known = len(licences) == 1 and licences[0] in _LICENCES
    splits = (("train", report.train), ("evaluation", report.evaluation))
    files = [{"split": split, "path": f"{split}.parquet"} for split, count in splits if count.total]
    return {
        "pretty_name": name,
        "license": licences[0] if known else "other",
        **({} if known else {"license_name": "mixed" if len(licences) > 1 else licences[0]}),
        "language": [language for language in report.languages if re.fullmatch("[a-z]{2,3}", language)],
        "task_categories": ["text-generation"],
        "size_categories": [next((size for end, size in _SIZES if report.total.total < end), "n>10M")],
        "configs": [{"config_name": "default", "data_files": files}],
    }


def _sources(report: MixReport) -> str:
    rows = [
        (row.source, row.count, row.positive, row.negative, _listed(row.licences), _listed(row.labellers))
        for row in report.sources
    ]
    total = report.total
    rows.append(("all", total.total, total.positive, total.negative, "", _listed(report.labellers)))
    return _table(("source", "count", "positive", "negative", "licence", "labelled by"), rows)


def _stages(report: MixReport) -> str:
    stages = [name for name in PartCount.model_fields if name != "name"]
    rows = [[part.name, *(getattr(part, stage) for stage in stages)] for part in (*report.parts, report.all_parts)]
    notes = "".join(
        f"- {name.replace('_', ' ')}: {field.description}\n"
        for name, field in PartCount.model_fields.items()
        if field.description
    )
    shortfall = f"\nThat is {report.shortfall:,} windows short of the limit.\n" if report.shortfall else ""
    return f"{_table(['input', *(stage.replace('_', ' ') for stage in stages)], rows)}\n{notes}{shortfall}"


def _contamination(report: MixReport) -> str:
    if not report.contaminated:
        return "Not compared with any evaluation set.\n"
    common = f"{report.common_ngrams:,} n-grams shared with them are boilerplate and did not count.\n"
    return f"{_counts('evaluation set', report.contaminated)}\n{common}"


def _settings(report: MixReport) -> str:
    fields = type(report.settings).model_fields
    rows = [(name, str(value), fields[name].description or "") for name, value in report.settings]
    command = f"\nMade with\n\n{textwrap.indent(report.command, '    ')}\n" if report.command else ""
    return f"{_table(('setting', 'value', 'meaning'), rows)}{command}"


def _counts(column: str, counts: Mapping[str, int]) -> str:
    return _table((column, "windows"), counts.items()) if counts else "None.\n"


def _table(columns: Sequence[str], rows: Iterable[Sequence[str | int]]) -> str:
    lines = (columns, ["---"] * len(columns), *rows)
    return "".join(f"| {' | '.join(map(_cell, line))} |\n" for line in lines)


def _listed(counts: Mapping[str, int]) -> str:
    """Write counts in a cell; a single one needs no number."""
    return ", ".join(f"{name} {count:,}" if len(counts) > 1 else name for name, count in counts.items())


def _cell(value: str | int) -> str:
    """Write a value so that it stays in its cell and is not read as Markdown or HTML."""
    if isinstance(value, int):
        return f"{value:,}"
    return re.sub(r"([\\|<`\[*])", r"\\\1", _line(value))


def _line(text: str) -> str:
    return " ".join(text.split())
