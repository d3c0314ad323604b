"""``penchant data label``: windows in, windows with a teacher's labels out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from penchant.cli.extract import SOME_INVALID
from penchant.errors import InputError
from penchant.types import Window

if TYPE_CHECKING:
    from penchant.data.answers import Bill
    from penchant.data.teacher import Estimate, Summary

Prices = tuple[float, float] | None
"""USD per million tokens of input and of output."""


def label(
    file: Annotated[Path, typer.Argument(metavar="WINDOWS", help="Windows: JSON Lines or Parquet.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The labelled windows, JSON Lines.")],
    model: Annotated[str, typer.Option(help="The server's model.")],
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="The server, e.g. http://localhost:8000/v1. The key is read from PENCHANT_API_KEY."
        ),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keeps every paid answer. Default: OUTPUT.work")
    ] = None,
    batch: Annotated[bool, typer.Option("--batch", help="Ask through the Batch API: within a day.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask nothing; estimate requests, tokens, cost.")] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="Most requests at once.")] = 8,
    attempts: Annotated[int, typer.Option(min=1, help="How often a window is asked for at most.")] = 3,
    parameters: Annotated[
        str,
        typer.Option(
            metavar="JSON",
            help='Sent with each request, e.g. {"temperature": 0, "max_tokens": 2048}; models differ in that.',
        ),
    ] = "{}",
    price_input: Annotated[float | None, typer.Option(min=0, help="USD per million input tokens.")] = None,
    price_output: Annotated[float | None, typer.Option(min=0, help="USD per million output tokens.")] = None,
    poll_interval: Annotated[float, typer.Option(min=0, help="--batch: seconds between two looks.")] = 30.0,
) -> None:
    """Label windows with a large LLM that is given the annotation guide.

    What has been answered is kept in the work folder: a run that was stopped goes on where it was, and nothing is
    paid twice. Windows without a valid answer are listed in OUTPUT.failed.jsonl beside the output.

    Exit code: 0 all is well; 1 could not run; 2 wrong usage; 3 some windows are not valid or got no label.
    """
    from penchant.data.teacher import Teacher

    prices = _prices(price_input, price_output)
    if output.exists() and file.exists() and output.samefile(file):
        raise InputError(f"{file} is to be read: write the output to another file")
    with Teacher(
        model,
        work or output.with_name(f"{output.stem}.work"),
        base_url=endpoint,
        parameters=_parameters(parameters),
        attempts=attempts,
        concurrency=concurrency,
        poll_interval=poll_interval,
    ) as teacher:
        windows, bad = _read(file)
        failed = 0
        if dry_run:
            _tell_estimate(teacher.estimate(windows), prices)
        else:
            summary = teacher.label(windows, output, batch=batch)
            _tell_summary(summary, prices)
            failed = summary.failed
    if bad or failed:
        raise typer.Exit(SOME_INVALID)


def _prices(price_input: float | None, price_output: float | None) -> Prices:
    if price_input is None and price_output is None:
        return None
    if price_input is None or price_output is None:
        raise typer.BadParameter("give both prices or none", param_hint="--price-input, --price-output")
    return price_input, price_output


def _parameters(text: str) -> dict[str, Any]:
    try:
        parameters = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="--parameters") from error
    if not isinstance(parameters, dict):
        raise typer.BadParameter("must be a JSON object", param_hint="--parameters")
    return parameters


def _read(file: Path) -> tuple[list[Window], int]:
    """Return the windows, and the number of records that are none; these are told at once."""
    from penchant.data.records import read_windows

    windows = []
    bad = 0
    for window in read_windows(file, Window):
        if isinstance(window, InputError):
            bad += 1
            sys.stderr.write(f"penchant: {window}\n")
        else:
            windows.append(window)
    if bad:
        sys.stderr.write(f"penchant: {bad} records of {file} are no windows and are left out\n")
    return windows, bad


def _tell_estimate(estimate: Estimate, prices: Prices) -> None:
    from penchant.data.teacher import OUTPUT_TOKENS

    typer.echo(f"{estimate.windows:,} windows, {estimate.bill.requests:,} requests after the cache")
    typer.echo(f"estimated {_tokens(estimate.bill, prices)}")
    typer.echo(
        f"(input: UTF-8 bytes / 4; output: {OUTPUT_TOKENS} tokens an answer; "
        "asking again after invalid answers, and hidden reasoning, come on top)"
    )
    if estimate.in_flight:
        typer.echo(f"{estimate.in_flight} batches are in flight and may hold some of these requests already")


def _tell_summary(summary: Summary, prices: Prices) -> None:
    from penchant.data.teacher import OPTIONAL_FROM

    typer.echo(f"labelled {summary.labelled:,} of {summary.windows:,} windows ({summary.recovered:,} recovered)")
    if summary.failed:
        typer.echo(f"{summary.failed:,} got no label: see {summary.failures}")
    if summary.dropped:
        typer.echo(f"{summary.dropped:,} rules below {OPTIONAL_FROM} were dropped")
    typer.echo(f"{summary.bill.requests:,} answers were paid for: {_tokens(summary.bill, prices)}")


def _tokens(bill: Bill, prices: Prices) -> str:
    tokens = f"{bill.input_tokens:,} input tokens, {bill.output_tokens:,} output tokens"
    return f"{tokens}, USD {bill.cost(*prices):,.2f}" if prices else tokens
