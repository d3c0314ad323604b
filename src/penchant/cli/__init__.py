"""The ``penchant`` command: one file per subcommand; each parses, calls the library and prints."""

from __future__ import annotations

import logging
import sys

import typer

import penchant
from penchant.cli.chat import chat
from penchant.cli.data import data
from penchant.cli.evaluate import evaluate
from penchant.cli.extract import extract
from penchant.cli.llama_factory import llama_factory
from penchant.cli.memory import memory
from penchant.cli.models import models
from penchant.cli.simulate import simulate
from penchant.cli.train import export, train
from penchant.cli.why import why
from penchant.errors import PenchantError

app = typer.Typer(
    help="Learn how each user likes things done: extract preferences from dialogues, locally.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(extract)
app.command()(chat)
app.add_typer(memory)
app.command()(why)
app.add_typer(models)
app.add_typer(data)
app.command()(train)
app.command()(export)
app.add_typer(evaluate)
app.command()(simulate)
app.add_typer(llama_factory)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penchant {penchant.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", callback=_version, is_eager=True
    ),
) -> None:
    logging.basicConfig(level=logging.WARNING, format="penchant: %(message)s", stream=sys.stderr)
    logging.getLogger("penchant").setLevel(logging.INFO)


def main() -> None:
    """Run the command; an expected error is one line on stderr and exit code 1."""
    try:
        app()
    except (PenchantError, OSError) as error:
        sys.stderr.write(f"penchant: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
