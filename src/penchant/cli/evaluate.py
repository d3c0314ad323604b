"""``penchant evaluate``: measure how good extractors, retrieval, merging and rewards are."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.evaluate_merging import merging
from penchant.cli.evaluate_retrieval import retrieval
from penchant.cli.evaluate_rewards import rewards
from penchant.cli.extract import SOME_INVALID
from penchant.extract.window import PromptName

evaluate = typer.Typer(name="evaluate", no_args_is_help=True)
evaluate.command()(retrieval)
evaluate.command()(merging)
evaluate.command()(rewards)


@evaluate.callback()
def _group() -> None:
    """Measure how good extractors, retrieval, merging and rewards are (needs the train extra)."""


@evaluate.command()
def extraction(
    gold: Annotated[Path, typer.Argument(help="Labelled windows, JSON Lines or Parquet (docs/annotation.md, Record).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the report.")],
    extractor: Annotated[
        list[str] | None,
        typer.Option(
            "--extractor",
            "-e",
            metavar="[NAME=]KIND[:MODEL]",
            help="keywords; untuned (SmolLM2-135M-Instruct); embedded, of a prepared folder or a whole .gguf file; "
            "embedded-recall, of a prepared folder with confidence.json; transformers, of a hub id or a folder; "
            "endpoint, of the server's name for it. Give it once for each; "
            "none: keywords, untuned, embedded and embedded-recall.",
        ),
    ] = None,
    endpoint: Annotated[
        str | None, typer.Option(metavar="URL", help="endpoint: the server. The key is read from PENCHANT_API_KEY.")
    ] = None,
    prompt: Annotated[
        PromptName | None,
        typer.Option(help="transformers (default: card), endpoint (default: guide): the system prompt."),
    ] = None,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Least cosine of two actions that count as the same.")
    ] = 0.6,
) -> None:
    """Compare extractors on labelled windows and write report.md, report.json and plots.

    Up to 50 windows are run a second time, one by one, to see how long one takes. A run that was killed goes on, when
    it is given again, with the extractor that it had not finished.

    Exit code: 0 all is well; 1 could not run; 2 wrong usage; 3 an extractor failed, or none of its answers could be
    read, which the report says; the others went on.
    """
    from penchant.data.records import load_windows
    from penchant.evaluate import embedding, markdown, matching, report, run, specs, write
    from penchant.types import LabelledWindow

    chosen = specs.parse_specs(extractor or specs.DEFAULT, endpoint, prompt)
    windows = load_windows(gold, LabelledWindow)
    output.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written should not come out at the end
    judge = matching.SemanticJudge(embedding.MiniLM().embed, threshold)
    header = report.describe(gold, windows, shlex.join(["penchant", *sys.argv[1:]]), judge, embedding.NAME)
    outcomes = run.run_all(chosen, windows, header.sha256, output)
    result = report.build_report(header, windows, outcomes, judge)
    write.write_report(result, output)
    run.forget(output)
    typer.echo("\n".join([*markdown.headline(result), "", f"report: {output / 'report.md'}"]))
    if any(assessment.failure or not assessment.valid.value for assessment in result.extractors):
        raise typer.Exit(SOME_INVALID)
