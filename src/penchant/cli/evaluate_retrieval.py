"""``penchant evaluate retrieval``: ways to find the notes that apply to a message, side by side."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from penchant.errors import InputError


def retrieval(
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the report.")],
    profiles: Annotated[
        list[Path] | None,
        typer.Option(help="Relevance profiles, such as data/relevance/train.jsonl. Give it once for each file."),
    ] = None,
    ikat: Annotated[
        Path | None, typer.Option(help="The topics of TREC iKAT 2023, as published (2023_test_topics.json).")
    ] = None,
    resolved: Annotated[
        bool,
        typer.Option("--resolved/--as-said", help="iKAT: search by resolved utterances, or by what the user said."),
    ] = True,
    apart: Annotated[
        bool,
        typer.Option(
            "--apart",
            help="Only profiles that the pair reader was not trained on (one in eight); on all, it looks better.",
        ),
    ] = False,
    reranker: Annotated[
        str,
        typer.Option(
            metavar="none|embedded|FILE.gguf|[causal:]ID",
            help="The embedded pair reader, or its weights in a file; a cross-encoder, or with causal: an LM that "
            "answers yes or no, by its hub id or a folder.",
        ),
    ] = "embedded",
    embedder: Annotated[
        str, typer.Option(metavar="NAME", help="all-MiniLM-L6-v2, or a sentence-transformers model.")
    ] = "all-MiniLM-L6-v2",
) -> None:
    """Compare dense search, query transformation, a reranker, BM25 and a hybrid, and write a report and a plot.

    How well are the notes that apply to a message ranked, and how well does the best score tell that none does?
    """
    from penchant.evaluate import pages, retrieval_pages, retrieval_sets, retrieval_systems
    from penchant.evaluate import retrieval as measuring

    if not profiles and not ikat:
        raise InputError("there is nothing to search: give --profiles, --ikat or both")
    sets = [retrieval_sets.read_profiles(profiles, apart)] if profiles else []
    sets += [retrieval_sets.read_ikat(ikat, resolved)] if ikat else []
    output.mkdir(parents=True, exist_ok=True)  # a folder that cannot be written should not come out at the end
    systems = retrieval_systems.load_systems(embedder, reranker)
    source = pages.describe(
        shlex.join(["penchant", *sys.argv[1:]]),
        [*(profiles or ()), *([ikat] if ikat else ())],
        {"embedding model": embedder, "reranker": reranker},
    )
    report = measuring.build_report(source, sets, systems)
    pages.write_pages(
        output,
        measuring.REPORT.dump_json(report, indent=1),
        retrieval_pages.render(report),
        {retrieval_pages.PLOT: retrieval_pages.draw(report)},
    )
    for result in report.sets:
        typer.echo("\n".join(retrieval_pages.headline(result)))
    typer.echo(f"report: {output / 'report.md'}")
