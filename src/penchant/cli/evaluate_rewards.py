"""``penchant evaluate rewards``: how content is a user, by their reaction?"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def rewards(
    exchanges: Annotated[
        list[Path], typer.Argument(help="Rated exchanges, such as data/labelled/reactions.jsonl and reactions-2.jsonl.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the report.")],
    apart: Annotated[
        bool,
        typer.Option(
            "--apart/--all", help="Measure on the exchanges that the pair reader was not trained on, or on all."
        ),
    ] = True,
    dead_zone: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Estimates no further from 0 have no sign.",
            show_default="chosen on the exchanges not kept apart",
        ),
    ] = None,
    reader: Annotated[
        Path | None,
        typer.Option(metavar="FILE.gguf", help="Weights of the pair reader.", show_default="the shipped ones"),
    ] = None,
    embedder: Annotated[
        str, typer.Option(metavar="NAME", help="all-MiniLM-L6-v2, or a sentence-transformers model.")
    ] = "all-MiniLM-L6-v2",
) -> None:
    """Compare the paper's keywords, the pair reader and the commonest sign, and write a report and a plot."""
    from penchant.evaluate import pages, readers, rewards_pages
    from penchant.evaluate import rewards as measuring

    measured, others = measuring.load_exchanges(exchanges, apart)
    output.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written should not come out at the end
    read, embed = readers.load_read("reaction", reader), readers.load_embed(embedder)
    models = {"pair reader": str(reader or "as shipped"), "embedding model": embedder}
    source = pages.describe(shlex.join(["penchant", *sys.argv[1:]]), exchanges, models)
    report = measuring.build_report(source, measured, others, read, embed, dead_zone)
    pages.write_pages(
        output,
        measuring.REPORT.dump_json(report, indent=1),
        rewards_pages.render(report),
        {rewards_pages.PLOT: rewards_pages.draw(report)},
    )
    typer.echo("\n".join([*rewards_pages.headline(report), f"report: {output / 'report.md'}"]))
