"""Counting while a mix is made: where the windows of each input ended, and what is in the mix."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from penchant.data.choose import Entry
from penchant.data.decontaminate import Overlaps
from penchant.data.mix_report import MixReport, MixSettings, PartCount, SourceCount, SplitCount
from penchant.errors import InputError
from penchant.types import LabelledWindow


@dataclass(frozen=True)
class _Tally:
    """What windows are."""

    positive: Counter[bool] = field(default_factory=Counter)
    languages: Counter[str] = field(default_factory=Counter)
    licences: Counter[str] = field(default_factory=Counter)
    labellers: Counter[str] = field(default_factory=Counter)
    tags: Counter[str] = field(default_factory=Counter)

    def add(self, window: LabelledWindow) -> None:
        """Count one more."""
        self.positive[window.is_positive] += 1
        self.languages[window.language] += 1
        self.licences[window.licence] += 1
        self.labellers[window.labeller] += 1
        self.tags.update(set(window.tags))

    @property
    def split(self) -> SplitCount:
        """How many there are."""
        return SplitCount(positive=self.positive[True], negative=self.positive[False])


class Ledger:
    """The counts of one mix."""

    def __init__(self) -> None:
        self._stages: dict[str, Counter[str]] = {}
        self._mix = _Tally()
        self._splits: dict[str, _Tally] = defaultdict(_Tally)
        self._sources: dict[str, _Tally] = defaultdict(_Tally)

    def open(self, part: str) -> Counter[str]:
        """Begin counting the stages of the next part.

        Raises:
            InputError: another one has its name.
        """
        if part in self._stages:
            raise InputError(f"two inputs are named {part}: give each a name of its own")
        return self._stages.setdefault(part, Counter())

    def end(self, stage: str, entries: Iterable[Entry]) -> None:
        """Note that windows ended at a stage."""
        counters = list(self._stages.values())
        for entry in entries:
            counters[entry.part][stage] += 1

    def drop(self, stage: str, before: Iterable[Entry], after: Iterable[Entry]) -> None:
        """Note which windows ended at a stage, by which are left after it."""
        left = {entry.number for entry in after}
        self.end(stage, (entry for entry in before if entry.number not in left))

    def describe(self, split: str, window: LabelledWindow) -> LabelledWindow:
        """Note what a window of the mix is, and return it."""
        for tally in (self._mix, self._splits[split], self._sources[window.source]):
            tally.add(window)
        return window

    def report(
        self, settings: MixSettings, overlaps: Overlaps, evaluation_sets: Iterable[str], command: str
    ) -> MixReport:
        """Sum up when the mix is made."""
        parts = tuple(PartCount.model_validate({"name": name, **stages}) for name, stages in self._stages.items())
        in_mix = self._mix.split.total
        contaminated = Counter(overlap.evaluation_set for overlap in overlaps.found)
        return MixReport(
            command=command,
            settings=settings,
            train=self._splits["train"].split,
            evaluation=self._splits["evaluation"].split,
            shortfall=(settings.limit or in_mix) - in_mix,
            parts=parts,
            all_parts=PartCount.total(parts),
            sources=self._source_counts(),
            contaminated={name: contaminated[name] for name in evaluation_sets},
            common_ngrams=len(overlaps.common),
            languages=_falling(self._mix.languages),
            licences=_falling(self._mix.licences),
            labellers=_falling(self._mix.labellers),
            tags=_falling(self._mix.tags),
        )

    def _source_counts(self) -> tuple[SourceCount, ...]:
        counts = (
            SourceCount(
                source=name,
                positive=tally.split.positive,
                negative=tally.split.negative,
                licences=_falling(tally.licences),
                labellers=_falling(tally.labellers),
            )
            for name, tally in self._sources.items()
        )
        return tuple(sorted(counts, key=lambda row: (-row.count, row.source)))


def _falling(counts: Mapping[str, int]) -> dict[str, int]:
    """Order counts by number, the largest first, then by name, whatever the order in which they were made."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
