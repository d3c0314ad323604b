"""``penchant data``: from dialogues to a training mix."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.data_label import label
from penchant.cli.data_windows import windows
from penchant.cli.extract import SOME_INVALID

data = typer.Typer(name="data", no_args_is_help=True)
data.command()(windows)
data.command()(label)

_LABELLED = Path("data/labelled")


@data.callback()
def _group() -> None:
    """Make training data: windows from sources, labels, synthesis, mixing (needs the train extra)."""


@data.command()
def synthesise(
    output: Annotated[Path, typer.Option("--output", "-o", help="The labelled windows, JSON Lines.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 1000,
    wishes: Annotated[Path, typer.Option(help="A bank of wishes, JSON Lines.")] = _LABELLED / "wishes.jsonl",
    reactions: Annotated[Path, typer.Option(help="Exchanges with reactions.")] = _LABELLED / "reactions.jsonl",
    distractors: Annotated[
        list[Path] | None, typer.Option(help="Dialogues without a wish.", show_default="data/distractors.jsonl")
    ] = None,
    seed: Annotated[int, typer.Option(help="With the files, the only source of chance.")] = 0,
) -> None:
    """Set wishes into real dialogues: labelled windows, with and without a rule, without a teacher.

    The kinds and their shares are those of recipes/mix-small.yaml, where they can be changed.
    """
    from penchant.data.plan import Synthesis
    from penchant.data.records import write_windows

    plan = Synthesis(
        wishes=wishes,
        reactions=reactions,
        distractors=tuple(distractors or [Path("data/distractors.jsonl")]),
        count=count,
        seed=seed,
    )
    made = list(plan.windows())
    write_windows(output, made)
    positives = Counter(window.tags[0] for window in made if window.is_positive)
    for kind, number in sorted(Counter(window.tags[0] for window in made).items()):
        typer.echo(f"{number:7,} {kind} ({positives[kind]:,} with a rule)")


@data.command()
def mix(
    recipe: Annotated[Path, typer.Argument(help="A mix recipe, such as recipes/mix-small.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the mix.")],
) -> None:
    """Mix labelled windows: no duplicates, nothing of the evaluation sets, a given share of windows with a rule.

    Writes train.parquet, evaluation.parquet, the data card README.md and mix.json. Records that cannot be read are
    listed in rejected.jsonl, what overlaps an evaluation set in contaminated.jsonl.

    Exit code: 0 all is well; 1 could not run; 2 wrong usage; 3 some records could not be read.
    """
    from penchant.data.mix import build_mix
    from penchant.data.mix_report import PartCount
    from penchant.data.plan import read_plan

    plan = read_plan(recipe)
    command = shlex.join(["penchant", *sys.argv[1:]])
    report = build_mix(plan.open_parts(), plan.settings, output, plan.open_evaluation_sets(), command)
    total = PartCount.total(report.parts)
    typer.echo(
        f"{total.train:,} windows to train on, {total.evaluation:,} to evaluate on, of {total.read:,} read "
        f"({total.malformed:,} malformed, {total.duplicates + total.near_duplicates:,} duplicates, "
        f"{total.contaminated:,} contaminated, {total.surplus:,} left out for the share): {output / 'README.md'}"
    )
    if total.malformed:
        raise typer.Exit(SOME_INVALID)
