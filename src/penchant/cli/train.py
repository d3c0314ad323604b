"""``penchant train`` and ``penchant export``: from a recipe to a model in the forms it is used in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    recipe: Annotated[Path, typer.Argument(help="A recipe, such as recipes/smollm2-135m-cpu.yaml.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The run's folder; an unfinished run goes on.")],
    change: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Another value for a key of the recipe.")
    ] = None,
    stop_at: Annotated[
        int | None, typer.Option(min=1, metavar="STEP", help="Save and stop after this step; the run can go on later.")
    ] = None,
) -> None:
    """Fine-tune a model as a recipe says.

    Run it again after it was stopped or killed, and it goes on from its last checkpoint. On several GPUs:
    torchrun --nproc-per-node 4 -m penchant train RECIPE -o RUN; the global batch stays what the recipe says.

    The run's folder gets recipe.yaml, log.csv, loss.png, checkpoint-N and at the end the model in final/.
    """
    from penchant.train.recipe import read_recipe

    wanted = read_recipe(recipe, change or ())
    from penchant.train import sft  # takes seconds, which a misspelt key need not

    model = sft.train(wanted, output, stop_at)
    if sft.is_main_process():
        typer.echo(model)


def export(
    run: Annotated[Path, typer.Argument(help="A run of penchant train, or one checkpoint in it.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the exported model.")],
    form: Annotated[
        list[str] | None,
        typer.Option(help="safetensors, gguf-f16, gguf-q8_0 or embedded; give it once for each. None: all of them."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="report.json of penchant evaluate extraction, for the model card.")
    ] = None,
    sample: Annotated[int, typer.Option(min=1, help="Windows on which each form must answer as the run does.")] = 16,
) -> None:
    """Write a trained model in the forms it is used in, check what each answers, and write a model card.

    safetensors: what AutoModelForCausalLM loads, in OUTPUT itself. gguf-f16, gguf-q8_0: one file each, for llama.cpp,
    Ollama and OpenVINO. embedded: OUTPUT/embedded, for penchant extract --model OUTPUT/embedded.
    """
    from penchant.train.card import write_card
    from penchant.train.export import check_forms
    from penchant.train.export import export as write
    from penchant.train.trained import load_trained, sample_windows

    forms = check_forms(form or ())
    trained = load_trained(run)
    done = write(trained, output, forms, sample_windows(trained.recipe, sample))
    write_card(trained, output, done, report)
    for item in done:
        typer.echo(f"{item.form}: {item.path} (answers {item.same} of {item.sample} windows to the letter as the run)")
