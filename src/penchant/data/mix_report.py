"""How a mix is to be made, and the numbers that say how it came out (``mix.json``)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict, Field


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class MixSettings(_Value):
    """How labelled windows become a training mix."""

    positive_share: float = Field(
        default=0.33, gt=0, lt=1, description="share of windows with a rule, required or optional (published: 33:67)"
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        description="most windows in train and evaluation together; none: as many as the share allows",
    )
    evaluation_share: float = Field(
        default=0.02, ge=0, lt=1, description="share of conversations that go to the evaluation split"
    )
    evaluation_windows: int | None = Field(
        default=None,
        ge=0,
        description="most windows in the evaluation split, in whole conversations; takes the place of the share",
    )
    near_duplicate_threshold: float = Field(
        default=0.8, gt=0, le=0.99, description="Jaccard similarity from which windows of the same rules are duplicates"
    )
    ngram: int = Field(
        default=8,
        ge=2,
        description="words (twice as many characters in a script without spaces) in a row of a user turn that a window "
        "must not share with an evaluation set; shorter user turns of at least half as many must not be the same",
    )
    common_share: float = Field(
        default=0.001, ge=0, le=1, description="n-grams in more than this share of windows are boilerplate: no overlap"
    )
    common_windows: int = Field(default=20, ge=1, description="fewest windows that an n-gram of boilerplate is in")
    seed: int = Field(default=0, description="decides, with the names of windows, which are chosen and in which order")


class SplitCount(_Value):
    """The windows of ``train`` or ``evaluation``."""

    positive: int = 0
    negative: int = 0

    @property
    def total(self) -> int:
        """All windows."""
        return self.positive + self.negative


class PartCount(_Value):
    """What became of the windows of an input, stage by stage; each is counted where it ended."""

    name: str
    read: int = Field(default=0, description="records, readable or not")
    malformed: int = Field(default=0, description="records that are no window, see rejected.jsonl")
    duplicates: int = Field(default=0, description="windows that the model reads the same text of as of a kept one")
    conflicts: int = Field(default=0, description="duplicates, among those, with other rules than the kept one")
    near_duplicates: int = Field(default=0, description="windows like a kept one of the same rules")
    contaminated: int = Field(default=0, description="windows with text of an evaluation set, see contaminated.jsonl")
    surplus: int = Field(default=0, description="windows left out for the share of positives or the limit")
    train: int = 0
    evaluation: int = 0

    @classmethod
    def total(cls, parts: Iterable[PartCount]) -> Self:
        """Add up the counts of parts."""
        rows = [part.model_dump(exclude={"name"}) for part in parts]
        return cls(name="all", **{stage: sum(row[stage] for row in rows) for stage in rows[0]})


class SourceCount(_Value):
    """The windows in the mix that come from one source."""

    source: str
    positive: int
    negative: int
    licences: dict[str, int]
    labellers: dict[str, int]

    @property
    def count(self) -> int:
        """All windows."""
        return self.positive + self.negative


class MixReport(_Value):
    """Everything that is counted while a mix is made; counts by name are in falling order."""

    command: str
    settings: MixSettings
    train: SplitCount
    evaluation: SplitCount
    shortfall: int = Field(description="windows by which the mix falls short of the limit")
    parts: tuple[PartCount, ...]
    all_parts: PartCount
    sources: tuple[SourceCount, ...]
    contaminated: dict[str, int] = Field(description="windows left out, by evaluation set; one may count for several")
    common_ngrams: int = Field(description="n-grams shared with evaluation sets that are boilerplate")
    languages: dict[str, int]
    licences: dict[str, int]
    labellers: dict[str, int]
    tags: dict[str, int]

    @property
    def total(self) -> SplitCount:
        """Both splits together."""
        return SplitCount(
            positive=self.train.positive + self.evaluation.positive,
            negative=self.train.negative + self.evaluation.negative,
        )
