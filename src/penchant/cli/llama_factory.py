"""``penchant llama-factory``: data and settings to and from the framework that the published model was trained with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from penchant.cli.extract import SOME_INVALID
from penchant.errors import InputError
from penchant.types import LabelledWindow

llama_factory = typer.Typer(name="llama-factory", no_args_is_help=True)


@llama_factory.callback()
def _group() -> None:
    """Exchange data and settings with LLaMA-Factory (needs the train extra)."""


@llama_factory.command("write")
def write_(
    recipe: Annotated[Path, typer.Argument(help="A recipe of penchant train.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for dataset_info.json and train.yaml.")],
    devices: Annotated[int, typer.Option(min=1, help="GPUs; the global batch is divided among them.")] = 1,
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the recipe.")
    ] = None,
) -> None:
    """Write a recipe and its data so that `llamafactory-cli train train.yaml` does the same training."""
    from penchant.data.records import load_windows
    from penchant.train.llama_factory import write_llama_factory
    from penchant.train.recipe import read_recipe

    wanted = read_recipe(recipe, change or ())
    train = (window for path in wanted.train for window in load_windows(path, LabelledWindow))
    evaluation = load_windows(wanted.evaluation, LabelledWindow) if wanted.evaluation else None
    done = write_llama_factory(train, evaluation, wanted, output, devices)
    typer.echo(f"{done.train:,} windows to train on, {done.evaluation:,} to evaluate on: {done.settings}")


@llama_factory.command("read")
def read_(
    info: Annotated[Path, typer.Argument(help="dataset_info.json, or the folder that holds it.")],
    name: Annotated[str, typer.Argument(help="The dataset's name in it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The labelled windows, JSON Lines.")],
) -> None:
    """Read a dataset of LLaMA-Factory (alpaca or sharegpt) back into labelled windows.

    Exit code: 0 all is well; 1 could not run; 2 wrong usage; 3 some records could not be read.
    """
    from penchant.data.records import write_windows
    from penchant.train.llama_factory import read_llama_factory

    faults = 0

    def readable() -> Iterator[LabelledWindow]:
        nonlocal faults
        for window in read_llama_factory(info, name):
            if isinstance(window, InputError):
                faults += 1
                sys.stderr.write(f"penchant: {window}\n")
            else:
                yield window

    typer.echo(f"{write_windows(output, readable()):,} windows: {output}")
    if faults:
        raise typer.Exit(SOME_INVALID)


@llama_factory.command("recipe")
def recipe_(
    settings: Annotated[Path, typer.Argument(help="A training YAML of LLaMA-Factory.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe, YAML.")],
    devices: Annotated[int, typer.Option(min=1, help="GPUs that the settings are meant for.")] = 1,
) -> None:
    """Turn training settings of LLaMA-Factory into a recipe of penchant train.

    The recipe names windows/NAME.jsonl beside SETTINGS for each dataset: `penchant llama-factory read` writes them.
    """
    from penchant.train.llama_factory_settings import read_recipe
    from penchant.train.recipe import write_recipe

    write_recipe(read_recipe(settings, devices), output)
    typer.echo(output)
