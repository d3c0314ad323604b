"""What a report on extractors side by side holds, as plain data."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from pathlib import Path

import torch

from penchant.evaluate.assess import Assessment, assess
from penchant.evaluate.matching import SemanticJudge
from penchant.evaluate.metrics import Comparison, compare
from penchant.evaluate.pages import installed
from penchant.evaluate.run import Outcome
from penchant.models.fetch import sha256
from penchant.types import LabelledWindow, Preference

SCHEMA = "penchant.extraction-report/1"
"""Names what ``report.json`` holds; the number rises when a field changes its meaning or goes."""

_PACKAGES = ("penchant", "numpy", "scipy", "torch", "transformers", "openvino-genai", "openai")
_CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Header:
    """When, on what and by which judge extractors were compared."""

    date: str
    command: str
    data: str
    sha256: str
    windows: int
    negatives: int
    required: int
    optional: int
    hardware: str
    versions: Mapping[str, str]
    judge: str
    action_threshold: float
    condition_threshold: float


@dataclass(frozen=True)
class GoldWindow:
    """What there was to be found in a window."""

    id: str
    language: str
    tags: tuple[str, ...]
    preferences: tuple[Preference, ...]
    optional: tuple[Preference, ...]


@dataclass(frozen=True)
class Report:
    """Extractors side by side on one gold set; windows come in the order of the file."""

    schema: str
    header: Header
    gold: tuple[GoldWindow, ...]
    extractors: tuple[Assessment, ...]
    comparisons: tuple[Comparison, ...]


def describe(path: Path, gold: Sequence[LabelledWindow], command: str, judge: SemanticJudge, judge_name: str) -> Header:
    """Describe a comparison on the gold set that ``path`` holds, on this machine and today."""
    return Header(
        date=date.today().isoformat(),
        command=command,
        data=str(path),
        sha256=sha256(path),
        windows=len(gold),
        negatives=sum(not window.is_positive for window in gold),
        required=sum(len(window.preferences) for window in gold),
        optional=sum(len(window.optional) for window in gold),
        hardware=_hardware(),
        versions=installed(_PACKAGES),
        judge=judge_name,
        action_threshold=judge.action_threshold,
        condition_threshold=judge.condition_threshold,
    )


def build_report(
    header: Header, gold: Sequence[LabelledWindow], outcomes: Sequence[Outcome], judge: SemanticJudge
) -> Report:
    """Judge what extractors did on a gold set, and compare each pair of them."""
    assessments = tuple(assess(gold, outcome, judge) for outcome in outcomes)
    ids = [window.id for window in gold]
    comparisons = tuple(
        compare(
            (first.spec.name, second.spec.name),
            ids,
            [window.semantic for window in first.windows],
            [window.semantic for window in second.windows],
        )
        for first, second in combinations(assessments, 2)
    )
    windows = tuple(GoldWindow(w.id, w.language, w.tags, w.preferences, w.optional) for w in gold)
    return Report(SCHEMA, header, windows, assessments, comparisons)


def _hardware() -> str:
    model = re.search(r"^model name\s*:\s*(.+)$", _CPU_INFO.read_text() if _CPU_INFO.is_file() else "", re.MULTILINE)
    processor = model[1] if model else platform.processor() or platform.machine()
    graphics = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{processor}, {os.cpu_count()} cores{graphics}"
