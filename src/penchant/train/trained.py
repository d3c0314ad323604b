"""What a run has trained: find it, load it, and ask it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from penchant.data.records import read_windows
from penchant.errors import InputError, ModelError, first_line
from penchant.extract.generator import MAX_ANSWER_TOKENS
from penchant.extract.template import encode_messages
from penchant.extract.window import build_messages
from penchant.train.base import hash_base, load_base
from penchant.train.recipe import Recipe, read_recipe
from penchant.train.sft import FINAL, changed_since, newest_checkpoint
from penchant.types import LabelledWindow, Window


@dataclass(frozen=True)
class Trained:
    """A trained model in float32, adapters merged, with the recipe that made it."""

    model: Any
    tokenizer: Any
    recipe: Recipe
    run: Path
    checkpoint: Path


def load_trained(run: Path) -> Trained:
    """Load what a run trained: its final model, or its newest whole checkpoint if it has not ended.

    Args:
        run: a run's folder, or one checkpoint in it.

    Raises:
        InputError: it is no run, or nothing has been saved yet.
        ModelError: the weights cannot be loaded, or adapters are of a shipped model that has changed since.
    """
    folder = run if (run / "recipe.yaml").is_file() else run.parent
    if not (folder / "recipe.yaml").is_file():
        raise InputError(f"{run} is no run of `penchant train`: it has no recipe.yaml")
    checkpoint = run if folder != run else _newest(run)
    recipe = read_recipe(folder / "recipe.yaml")
    try:
        tokenizer = AutoTokenizer.from_pretrained(checkpoint)
        if recipe.method == "lora":
            if changed_since(folder, hash_base(recipe.model)):
                raise ModelError(f"{recipe.model} has changed since the run in {folder} began: train its adapters anew")
            base, _ = load_base(recipe.model)
            model = PeftModel.from_pretrained(base, checkpoint).merge_and_unload()
        else:
            model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype="float32")
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"cannot load {checkpoint}: {first_line(error)}") from error
    return Trained(model.eval(), tokenizer, recipe, folder, checkpoint)


def answer(model: Any, tokenizer: Any, window: Window, recipe: Recipe) -> str:
    """Answer one window as the published model card does: the chat template, then greedy decoding."""
    ids = encode_messages(tokenizer, build_messages(window.turns, recipe.prompt))
    question = torch.tensor([ids], device=model.device)
    with torch.inference_mode():
        output = model.generate(
            question,
            attention_mask=torch.ones_like(question),
            max_new_tokens=MAX_ANSWER_TOKENS,
            do_sample=False,
            pad_token_id=tokenizer.pad_token_id,
        )
    text: str = tokenizer.decode(output[0][len(ids) :], skip_special_tokens=True)
    return text


def answers(model: Any, tokenizer: Any, windows: Sequence[Window], recipe: Recipe) -> list[str]:
    """Answer windows one by one."""
    return [answer(model, tokenizer, window, recipe) for window in windows]


def sample_windows(recipe: Recipe, count: int) -> list[LabelledWindow]:
    """Return the first windows of the recipe's evaluation file, else of its training file.

    Raises:
        InputError: the file cannot be read.
    """
    windows = []
    for window in read_windows(recipe.evaluation or recipe.train[0], LabelledWindow):
        if isinstance(window, InputError):
            raise window
        windows.append(window)
        if len(windows) == count:
            break
    return windows


def _newest(run: Path) -> Path:
    ended = any((run / FINAL / name).is_file() for name in ("config.json", "adapter_config.json"))
    found = run / FINAL if ended else newest_checkpoint(run)
    if found is None:
        raise InputError(f"{run} has no checkpoint yet: let `penchant train` go on to its first save_steps")
    return found
