"""``penchant evaluate merging``: is a newer rule the same as an older one, or its contrary?"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer


def merging(
    pairs: Annotated[Path, typer.Argument(help="Pairs of rules, such as data/merge/test.jsonl.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the report.")],
    profiles: Annotated[
        list[Path] | None,
        typer.Option(
            help="Users whose rules all hold, such as data/relevance/train.jsonl: how many of them does merging lose? "
            "Give it once for each file."
        ),
    ] = None,
    apart: Annotated[
        bool,
        typer.Option(
            "--apart",
            help="Only profiles that the pair reader was not trained on (one in eight); on all, it looks better.",
        ),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.34,
            max=1,
            help="Least probability of the same matter, of the reader alone.",
            show_default="that of merging",
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
    """Measure how well the relation of an older and a newer rule is told, and write a report and a plot.

    Compared are the pair reader, the memory's merging as a whole, and guesses by words, cosine, conditions and lengths.
    """
    from penchant.evaluate import merging as measuring
    from penchant.evaluate import merging_pages, pages, readers, retrieval_sets
    from penchant.memory.merge import SURE

    loaded = measuring.load_pairs(pairs)
    users = retrieval_sets.load_profiles(profiles, apart) if profiles else []
    output.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written should not come out at the end
    read, embed = readers.load_read("relation", reader), readers.load_embed(embedder)
    models = {"pair reader": str(reader or "as shipped"), "embedding model": embedder}
    source = pages.describe(shlex.join(["penchant", *sys.argv[1:]]), [pairs, *(profiles or ())], models)
    report = measuring.build_report(source, loaded, read, embed, threshold or SURE, users)
    pages.write_pages(
        output,
        measuring.REPORT.dump_json(report, indent=1),
        merging_pages.render(report),
        {merging_pages.PLOT: merging_pages.draw(report)},
    )
    typer.echo(
        "\n".join(
            [*merging_pages.headline(report), *merging_pages.side_by_side(report), f"report: {output / 'report.md'}"]
        )
    )
