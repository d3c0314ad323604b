"""Labelled windows from several inputs -> one training mix: a folder with two splits, a data card and a report."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from tqdm import tqdm

from penchant.data.card import render_card
from penchant.data.choose import Entry, balance, by_trust, split, unique
from penchant.data.decontaminate import Overlaps, find_overlaps, index_evaluation_sets
from penchant.data.deduplicate import NearDuplicates, reading
from penchant.data.ledger import Ledger
from penchant.data.mix_report import MixReport, MixSettings
from penchant.data.spool import Spool, replacing, write_parquet
from penchant.errors import InputError
from penchant.types import LabelledWindow, Window

REPORT = "mix.json"
TRAIN = "train.parquet"
EVALUATION = "evaluation.parquet"
REJECTED = "rejected.jsonl"
CONTAMINATED = "contaminated.jsonl"
CARD = "README.md"


@dataclass(frozen=True)
class Part:
    """An input of a mix; an ``InputError`` in place of a window stands for a record that could not be read."""

    name: str
    windows: Iterable[LabelledWindow | InputError]


def build_mix(
    parts: Iterable[Part],
    settings: MixSettings,
    folder: Path,
    evaluation_sets: Mapping[str, Iterable[Window]] = MappingProxyType({}),
    command: str = "",
) -> MixReport:
    """Mix labelled windows into ``folder``, which appears whole or not at all.

    Duplicates go first, then what shares text with an evaluation set, then the surplus of windows with or without a
    rule; the rest is split by conversation, and what is made of several windows or wishes is trained on. The folder
    holds ``train.parquet``, ``evaluation.parquet`` (unless no window falls to it), ``mix.json`` (the report),
    ``README.md`` (the data card), ``rejected.jsonl`` and ``contaminated.jsonl``. Memory holds a few facts about each
    window; the windows themselves are on disk.

    Args:
        parts: with different names; each is read once.
        settings: how to mix.
        folder: a new one, or an earlier mix, which is replaced once the new one is complete.
        evaluation_sets: windows by the name of their set; no text of their user turns gets into the mix.
        command: the command line to note in the data card.

    Raises:
        InputError: a part or an evaluation set holds no window, windows with or without a rule are missing, or the
            folder holds something else than a mix.
    """
    with replacing(folder, REPORT, (TRAIN, EVALUATION, REJECTED, CONTAMINATED, CARD)) as new, Spool(new) as spool:
        ledger = Ledger()
        index = index_evaluation_sets(evaluation_sets, settings.ngram)
        entries = _read(parts, spool, settings.seed, ledger, new / REJECTED)
        entries = _unequal(entries, ledger)
        entries = _unlike(entries, spool, settings.near_duplicate_threshold, ledger)
        overlaps = _overlaps(entries, spool, index, settings)
        entries = _clean(entries, overlaps, spool, ledger, new / CONTAMINATED)
        balanced = balance(entries, settings)
        ledger.drop("surplus", entries, balanced)
        train, evaluation = split(balanced, settings)
        _write(new / TRAIN, train, spool, ledger)
        _write(new / EVALUATION, evaluation, spool, ledger)
        report = ledger.report(settings, overlaps, index, command)
        (new / REPORT).write_text(report.model_dump_json(indent=1), encoding="utf-8")
        (new / CARD).write_text(render_card(report, folder.resolve().name), encoding="utf-8")
    return report


def _read(parts: Iterable[Part], spool: Spool, seed: int, ledger: Ledger, rejected: Path) -> list[Entry]:
    """Put all windows into the spool; what is none is noted in ``rejected``."""
    entries: list[Entry] = []
    with rejected.open("w", encoding="utf-8") as out:
        for number, part in enumerate(parts):
            counts = ledger.open(part.name)
            for record in tqdm(part.windows, part.name, unit=" windows", disable=None):
                counts["read"] += 1
                try:
                    if isinstance(record, InputError):
                        raise record
                    entry = Entry.of(record, len(spool), number, seed)
                    spool.append(record)
                    entries.append(entry)
                except InputError as error:
                    counts["malformed"] += 1
                    out.write(json.dumps({"input": part.name, "error": str(error)}) + "\n")
            if counts["read"] == counts["malformed"]:
                among = f" among {counts['read']:,} records" if counts["read"] else ""
                raise InputError(f"the input {part.name} holds no window{among}: mend it or leave it out")
    if not entries:
        raise InputError("there is nothing to mix: give at least one input")
    return entries


def _unequal(entries: Sequence[Entry], ledger: Ledger) -> list[Entry]:
    """Keep one window of each text."""
    kept = unique(entries)
    ledger.drop("duplicates", entries, kept.values())
    ledger.end("conflicts", (entry for entry in entries if entry.label != kept[entry.text].label))
    return list(kept.values())


def _unlike(entries: Sequence[Entry], spool: Spool, threshold: float, ledger: Ledger) -> list[Entry]:
    """Drop near duplicates, looking for them only among windows of the same rules."""
    groups: dict[bytes, list[Entry]] = defaultdict(list)
    for entry in by_trust(entries):
        groups[entry.label].append(entry)
    kept = []
    with tqdm(total=len(entries), desc="near duplicates", unit=" windows", disable=None) as progress:
        for group in groups.values():
            seen = NearDuplicates(threshold)
            for entry in group:
                if len(group) == 1 or not seen.is_one(reading(spool[entry.number].turns)):
                    kept.append(entry)
                progress.update()
    ledger.drop("near_duplicates", entries, kept)
    return kept


def _overlaps(
    entries: Sequence[Entry], spool: Spool, index: Mapping[str, frozenset[str]], settings: MixSettings
) -> Overlaps:
    progress = tqdm(entries if index else (), "contamination", unit=" windows", disable=None)
    windows = ((entry.number, spool[entry.number].turns) for entry in progress)
    return find_overlaps(windows, index, settings.ngram, settings.common_share, settings.common_windows)


def _clean(entries: Sequence[Entry], overlaps: Overlaps, spool: Spool, ledger: Ledger, note: Path) -> list[Entry]:
    """Drop windows that share text with an evaluation set; ``note`` which and what."""
    with note.open("w", encoding="utf-8") as out:
        for overlap in overlaps.found:
            line = {"id": spool[overlap.window].id, "evaluation_set": overlap.evaluation_set, "ngram": overlap.ngram}
            out.write(json.dumps(line, ensure_ascii=False) + "\n")
    contaminated = {overlap.window for overlap in overlaps.found}
    kept = [entry for entry in entries if entry.number not in contaminated]
    ledger.drop("contaminated", entries, kept)
    return kept


def _write(path: Path, entries: Sequence[Entry], spool: Spool, ledger: Ledger) -> None:
    """Write a split in an order that has nothing to do with where windows come from; no file if there are none."""
    ledger.end(path.stem, entries)
    if entries:
        shuffled = sorted(entries, key=lambda entry: entry.place)
        progress = tqdm(shuffled, path.name, unit=" windows", disable=None)
        write_parquet(path, (ledger.describe(path.stem, spool[entry.number]) for entry in progress))
