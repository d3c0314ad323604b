"""Recipes <-> the YAML settings of LLaMA-Factory's supervised fine-tuning (0.9.5, src/llamafactory/hparams)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from penchant.errors import InputError
from penchant.extract.window import PromptName
from penchant.train.recipe import SHIPPED, SMOLLM2, SMOLLM2_HUB, Recipe, make_recipe

_TEMPLATES = {"qwen3": "qwen3_nothink", "qwen": "qwen", "smollm2": "smollm2"}
"""LLaMA-Factory's chat template for what a model's name contains; for other models it takes the tokeniser's own.

Ours begins Qwen3's answer without a think block, and so does ``qwen3_nothink``; ``qwen3`` would set an empty one
before the answer, with ``enable_thinking: false`` too.
"""

_ATTENTION = {"sdpa": "sdpa", "flash_attention_2": "fa2", "flash_attention_3": "fa3", "eager": "disabled"}

_SAME: dict[str, Any] = {
    "num_train_epochs": 3,
    "learning_rate": 5e-5,
    "lr_scheduler_type": "linear",
    "warmup_ratio": 0.0,
    "optim": "adamw_torch_fused",
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "adam_epsilon": 1e-8,
    "weight_decay": 0.0,
    "max_grad_norm": 1.0,
    "seed": 42,
    "bf16": False,
    "torch_compile": False,
    "logging_steps": 500,
    "save_steps": 500,
    "save_total_limit": 1000,  # there: no limit
}
"""Keys of the same name and meaning, with their defaults in LLaMA-Factory."""

_ONLY = {"stage": "sft", "train_on_prompt": False, "lora_target": "all"}
"""Keys for which there is one way here."""

_HARMLESS = re.compile(
    r"""
    # where things lie, and what is reported
    do_(train|eval|predict) | dataset_dir | (overwrite_)?output_dir | cache_dir | tokenized_path | run_name | report_to
    | plot_loss | log(ging)?_.* | disable_tqdm | save_(strategy|only_model|safetensors) | eval(uation)?_strategy
    | per_device_eval_batch_size | compute_accuracy | resume_from_checkpoint | include_num_input_tokens_seen
    # how it is computed
    | overwrite_cache | preprocessing_.* | dataloader_(num_workers|pin_memory|persistent_workers|prefetch_factor)
    | ddp_.* | deepspeed | fsdp_config | use_fast_tokenizer | low_cpu_mem_usage | trust_remote_code | use_reentrant_gc
    | use_unsloth(_gc)? | group_by_length | train_sampling_strategy | tf32
    # what a window with its one answer does not touch; the chat template is always the model's own
    | template | enable_thinking | preserve_thinking | mask_history | (image|video|audio)_.*
    | freeze_vision_tower | freeze_multi_modal_projector
    """,
    re.VERBOSE,
)
"""Keys of LLaMA-Factory that a recipe does without, whatever their value."""

_OFF = (False, 0, -1, "", "none")
"""Values that switch off whatever the key is."""


def make_settings(recipe: Recipe, evaluate: bool, devices: int) -> dict[str, Any]:
    """Return the settings that train what a recipe says on ``devices`` devices; the datasets lie in the same folder.

    How it is computed (``batching``, the kind of attention) may differ.

    Raises:
        InputError: LLaMA-Factory has nothing like a value of the recipe.
    """
    if recipe.freeze_embeddings and recipe.method == "full":
        raise InputError("LLaMA-Factory cannot leave just the embedding as it is: set freeze_embeddings to false")
    at_once, accumulation = recipe.accumulation(devices)
    settings = {
        "model_name_or_path": _model(recipe.model),
        "stage": "sft",
        "do_train": True,
        "finetuning_type": recipe.method,
        "dataset_dir": ".",
        "dataset": "penchant_train",
        "cutoff_len": recipe.max_length,
        "train_on_prompt": False,
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": accumulation,
        **{key: getattr(recipe, key) for key in _SAME},
        "disable_gradient_checkpointing": not recipe.gradient_checkpointing,
        "enable_liger_kernel": recipe.use_liger_kernel,
        "flash_attn": _ATTENTION.get(recipe.attn_implementation, "auto"),
        "ddp_find_unused_parameters": False,
        "output_dir": "output",
        "plot_loss": True,
        "report_to": "none",
    }
    if template := next((value for part, value in _TEMPLATES.items() if part in recipe.model.lower()), None):
        settings["template"] = template
    if recipe.method == "lora":
        settings |= {key: getattr(recipe, key) for key in ("lora_rank", "lora_alpha", "lora_dropout")}
        settings["lora_target"] = "all"
    if recipe.min_lr_ratio:
        settings["lr_scheduler_type"] = "cosine_with_min_lr"
        settings["lr_scheduler_kwargs"] = {"min_lr_rate": recipe.min_lr_ratio}
    if recipe.fsdp:
        settings["fsdp"] = "full_shard auto_wrap"
    if evaluate:
        settings |= {"eval_dataset": "penchant_evaluation", "eval_strategy": "steps", "eval_steps": recipe.eval_steps}
        settings["per_device_eval_batch_size"] = at_once
    return settings


def read_recipe(path: Path, devices: int = 1, prompt: PromptName = "card") -> Recipe:
    """Read a training's settings; what they leave out has LLaMA-Factory's defaults.

    A recipe's data are windows in our own form. For each dataset of the settings it names ``windows/NAME.jsonl``
    beside them: write there what ``read_llama_factory`` yields.

    Args:
        path: a YAML file.
        devices: on how many the training ran; its batches are as many times larger.
        prompt: the system prompt in its data.

    Raises:
        InputError: the file cannot be read, or holds a key that changes the training and is like nothing in a recipe.
    """
    given = _load(path)
    for key, value in _ONLY.items():
        if given.get(key) == value:
            del given[key]
    values = {key: given.pop(key, default) for key, default in _SAME.items()}
    values |= _data(given, path) | _method(given, path) | _engine(given, devices, path)
    values |= _schedule(given, values, path)
    values |= {"prompt": prompt, "answer": "json", "eval_steps": given.pop("eval_steps", values["logging_steps"])}
    unknown = [key for key, value in given.items() if value not in _OFF and not _HARMLESS.fullmatch(key)]
    if unknown:
        raise InputError(
            f"{path}: a recipe has nothing like {', '.join(f'{key}: {given[key]}' for key in unknown)}, which changes "
            "the training: remove what you can do without"
        )
    return make_recipe(values, str(path))


def _model(name: str) -> str:
    """Return what LLaMA-Factory can load, from whatever folder it runs in."""
    if name == SMOLLM2:
        return SMOLLM2_HUB
    if name == SHIPPED:
        from penchant.train.base import smollm2_folder  # takes seconds, which another model need not

        return str(smollm2_folder(name).resolve())
    return str(Path(name).resolve()) if Path(name).is_dir() else name


def _load(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read the settings {path}: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise InputError(f"{path} holds no settings: expected `key: value` lines, as llamafactory-cli train takes them")
    return {str(key): value for key, value in data.items() if value is not None}


def _data(given: dict[str, Any], path: Path) -> dict[str, Any]:
    train, evaluation = (
        [path.parent / "windows" / f"{name.strip()}.jsonl" for name in str(given.pop(key, "")).split(",") if name]
        for key in ("dataset", "eval_dataset")
    )
    if len(evaluation) > 1:
        raise InputError(f"{path}: eval_dataset: a recipe has one evaluation set, not {len(evaluation)}: keep one")
    return {
        "model": given.pop("model_name_or_path", ""),
        "train": train,
        "evaluation": evaluation[0] if evaluation else None,
        "optional_rules": True,
        "max_length": given.pop("cutoff_len", 2048),
    }


def _method(given: dict[str, Any], path: Path) -> dict[str, Any]:
    method = given.pop("finetuning_type", "lora")
    rank = _number(given, "lora_rank", 8, path)
    lora: dict[str, Any] = {
        "lora_rank": rank,
        "lora_alpha": given.pop("lora_alpha", 2 * rank),
        "lora_dropout": given.pop("lora_dropout", 0.0),
    }
    if method == "full":
        given.pop("lora_target", None)
        lora = dict.fromkeys(lora)
    return {"method": method, "freeze_embeddings": False, **lora}


def _schedule(given: dict[str, Any], values: dict[str, Any], path: Path) -> dict[str, Any]:
    schedule: dict[str, Any] = {"min_lr_ratio": 0.0}
    if steps := _number(given, "warmup_steps", 0, path):  # takes the place of the ratio
        if steps >= 1:
            raise InputError(f"{path}: warmup_steps: give the share of the steps instead, as warmup_ratio")
        schedule["warmup_ratio"] = steps
    if values["lr_scheduler_type"] == "cosine_with_min_lr":
        floor = given.pop("lr_scheduler_kwargs", None)
        if not isinstance(floor, dict):
            raise InputError(f"{path}: lr_scheduler_kwargs: expected `min_lr_rate: SHARE` below it")
        rate = _number(values, "learning_rate", 0, path)
        lowest = _number(floor, "min_lr", 0, path)
        schedule |= {
            "lr_scheduler_type": "cosine",
            "learning_rate": rate,
            "min_lr_ratio": floor.get("min_lr_rate", lowest / rate if rate else 0),
        }
    return schedule


def _engine(given: dict[str, Any], devices: int, path: Path) -> dict[str, Any]:
    at_once = _number(given, "per_device_train_batch_size", 8, path)
    names = {name: kind for kind, name in _ATTENTION.items()}
    liger = given.pop("enable_liger_kernel", False)
    return {
        "global_batch_size": at_once * _number(given, "gradient_accumulation_steps", 1, path) * devices,
        "per_device_batch_size": at_once,
        "batching": "padding-free" if liger else "padded",  # the same updates either way
        "attn_implementation": names.get(given.pop("flash_attn", "auto"), "sdpa"),
        "use_liger_kernel": liger,
        "gradient_checkpointing": not given.pop("disable_gradient_checkpointing", False),
        "fsdp": bool(given.pop("fsdp", False)),
    }


def _number(given: dict[str, Any], key: str, default: float, path: Path) -> float:
    value = given.pop(key, default)
    try:
        return float(value)  # YAML takes 2e-5 for a text
    except (TypeError, ValueError):
        raise InputError(f"{path}: {key}: expected a number, not {value!r}") from None
