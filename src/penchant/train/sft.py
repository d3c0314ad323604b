"""Supervised fine-tuning by transformers' Trainer: one process, or many under ``torchrun``; loss on the answer only."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from safetensors import SafetensorError
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback, TrainingArguments, set_seed

from penchant.errors import InputError, ModelError, first_line
from penchant.models.fetch import sha256
from penchant.train.base import has_fast_bfloat16, hash_base, load_base
from penchant.train.batches import GroupedSampler, collate_flat, collate_padded, select_answers
from penchant.train.examples import make_dataset
from penchant.train.log import LOG, CsvLog, Divergence, Progress
from penchant.train.recipe import Recipe, read_recipe, write_recipe

FINAL = "final"
"""The folder of a run that holds the trained model once it is done."""

_DATA, _CACHE = "data.json", "cache"

_log = logging.getLogger(__name__)


class _Trainer(Trainer):
    """transformers' Trainer with the same global batches on any number of devices."""

    def __init__(self, sampler: GroupedSampler, **options: Any) -> None:
        self._sampler = sampler
        super().__init__(**options)

    def _get_train_sampler(self, train_dataset: Any = None) -> GroupedSampler:
        return self._sampler


class _StopAt(TrainerCallback):
    """Save and stop after a step, while the schedule stays that of the whole run."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step >= self._step:
            control.should_training_stop = control.should_save = True


def train(recipe: Recipe, folder: Path, stop_at: int | None = None) -> Path:
    """Train, or go on where a run in ``folder`` was stopped or killed; return the folder of the newest model.

    Args:
        recipe: what to do. A run in ``folder`` goes on under its own recipe only.
        folder: gets ``recipe.yaml``, ``log.csv``, ``loss.png``, ``checkpoint-N`` and, at the end, ``final``.
        stop_at: save and stop after so many steps; the run can go on later.

    Raises:
        InputError: the folder holds another run, or the data cannot be used.
        ModelError: the model cannot be loaded, a checkpoint does not fit it, or the run diverges.
    """
    state = _processes(recipe)
    recipe.accumulation(state.num_processes)  # before anything is loaded or written
    with state.main_process_first():
        _claim(folder, recipe)
    set_seed(recipe.seed)
    model, tokenizer = load_base(recipe.model, recipe.attn_implementation)
    with state.main_process_first():
        windows = make_dataset(recipe.train, tokenizer, recipe, folder / _CACHE)
        held_out = make_dataset([recipe.evaluation], tokenizer, recipe, folder / _CACHE) if recipe.evaluation else None
    trainer = make_trainer(recipe, folder, model, tokenizer.pad_token_id, windows, held_out)
    trainer.processing_class = tokenizer
    trainer.add_callback(CsvLog(folder))
    trainer.add_callback(Divergence)
    if stop_at:
        trainer.add_callback(_StopAt(stop_at))
    return _run(trainer, folder)


def make_trainer(
    recipe: Recipe, folder: Path, model: Any, pad: int, windows: Dataset, held_out: Dataset | None
) -> Trainer:
    """Set transformers' Trainer up as a recipe says.

    Args:
        recipe: what to do; its model and files are not looked at.
        folder: for checkpoints.
        model: in float32.
        pad: token id for padding.
        windows: rows of ``make_dataset``.
        held_out: the same for the evaluation loss, or None.
    """
    if recipe.freeze_embeddings:
        model.get_input_embeddings().weight.requires_grad_(False)
    if recipe.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    if recipe.method == "lora":
        model = get_peft_model(model, _lora(recipe))
    if recipe.batching == "padded":
        select_answers(model)
    trainer = _Trainer(
        GroupedSampler(windows["length"], recipe.global_batch_size, recipe.seed),
        model=model,
        args=_arguments(recipe, folder, held_out is not None),
        train_dataset=windows,
        eval_dataset=held_out,
        data_collator=partial(collate_padded, pad=pad) if recipe.batching == "padded" else collate_flat,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    if sys.stderr.isatty():
        trainer.add_callback(Progress)
    return trainer


def is_main_process() -> bool:
    """Say whether this process is the one that writes and speaks."""
    return bool(PartialState().is_main_process)


def newest_checkpoint(folder: Path) -> Path | None:
    """Return the last checkpoint that was written whole; its state file is the last to be written."""
    steps = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdigit()]
    found = sorted(steps, key=lambda path: int(path.name.rpartition("-")[2]), reverse=True)
    return next((path for path in found if _is_whole(path)), None)


def changed_since(folder: Path, hashes: Mapping[str, str]) -> list[str]:
    """Return which of these hashes are other ones than the run in a folder noted when it began, if it did."""
    before = json.loads((folder / _DATA).read_text(encoding="utf-8")) if hashes else {}
    return [name for name, digest in hashes.items() if before.get(name, digest) != digest]


def _run(trainer: Trainer, folder: Path) -> Path:
    checkpoint = newest_checkpoint(folder)
    if checkpoint:
        _log.info("going on from %s", checkpoint)
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        if trainer.state.global_step < trainer.state.max_steps:
            return newest_checkpoint(folder) or folder
        trainer.save_model(str(folder / f".part-{FINAL}"))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise _translate(error, checkpoint, folder) from error
    if trainer.is_world_process_zero():
        shutil.rmtree(folder / FINAL, ignore_errors=True)
        (folder / f".part-{FINAL}").rename(folder / FINAL)
    return folder / FINAL


def _translate(error: Exception, checkpoint: Path | None, folder: Path) -> Exception:
    """Say what is to be done about an error that is to be expected; another one stays as it is."""
    reason = first_line(error)
    if checkpoint and "state_dict" in str(error):
        return ModelError(f"{checkpoint} is of another model than the recipe's: use another folder")
    if "out of memory" in str(error) or "can't allocate memory" in str(error):
        return ModelError(f"not enough memory ({reason[:120]}): lower per_device_batch_size, in a new run")
    if isinstance(error, (OSError, SafetensorError)) or "PytorchStreamWriter" in str(error):
        return ModelError(
            f"cannot write to {folder} ({reason}): make room and run this again, the last checkpoint is whole"
        )
    return error


def _processes(recipe: Recipe) -> PartialState:
    if recipe.fsdp:
        if not torch.cuda.is_available():
            raise InputError("fsdp: true shards a model over GPUs, and there is none here: set fsdp: false")
        os.environ["ACCELERATE_USE_FSDP"] = "true"  # accelerate chooses its backend for it at once
    return PartialState(cpu=not torch.cuda.is_available())


def _claim(folder: Path, recipe: Recipe) -> None:
    """Note the recipe and the hashes of its data and base in the run's folder; a run cannot go on under others."""
    path, data, cache = folder / "recipe.yaml", folder / _DATA, folder / _CACHE
    files = [*recipe.train, *([recipe.evaluation] if recipe.evaluation else [])]
    if missing := [file for file in files if not file.is_file()]:
        raise InputError(f"no such file: {missing[0]} (the recipe names it)")
    hashes = {str(file): sha256(file) for file in files} | hash_base(recipe.model)
    if path.exists() and (folder / LOG).exists():  # without a log nothing was trained
        before, now = read_recipe(path).model_dump(mode="json"), recipe.model_dump(mode="json")
        changed = [key for key in now if now[key] != before[key]]
        if changed:
            key = changed[0]
            raise InputError(
                f"{folder} holds a run with {key}: {before[key]}, not {now[key]}: use that recipe, or another folder"
            )
        if other := changed_since(folder, hashes):
            raise InputError(f"{other[0]} has changed since the run in {folder} began: use another folder")
    elif folder.exists() and any(item not in (path, data, cache) for item in folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no run: give a new folder")
    else:
        folder.mkdir(parents=True, exist_ok=True)
        data.write_text(json.dumps(hashes, indent=1), encoding="utf-8")
        write_recipe(recipe, path)


def _is_whole(checkpoint: Path) -> bool:
    try:
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return True


def _lora(recipe: Recipe) -> LoraConfig:
    return LoraConfig(
        r=recipe.lora_rank or 0,  # the recipe has made sure that all three are there
        lora_alpha=recipe.lora_alpha or 0,
        lora_dropout=recipe.lora_dropout or 0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def _arguments(recipe: Recipe, folder: Path, evaluate: bool) -> TrainingArguments:
    at_once, accumulation = recipe.accumulation(PartialState().num_processes)
    half = recipe.bf16 and has_fast_bfloat16("cuda" if torch.cuda.is_available() else "cpu")
    if recipe.bf16 and not half:
        _log.warning("bf16: this CPU is slower in bfloat16 than in float32, which is used instead")
    floor = recipe.lr_scheduler_type == "cosine" and recipe.min_lr_ratio > 0
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=at_once,
        per_device_eval_batch_size=at_once,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=recipe.num_train_epochs,
        learning_rate=recipe.learning_rate,
        lr_scheduler_type="cosine_with_min_lr" if floor else recipe.lr_scheduler_type,
        lr_scheduler_kwargs={"min_lr_rate": recipe.min_lr_ratio} if floor else {},
        warmup_steps=recipe.warmup_ratio,
        optim=recipe.optim,
        adam_beta1=recipe.adam_beta1,
        adam_beta2=recipe.adam_beta2,
        adam_epsilon=recipe.adam_epsilon,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        seed=recipe.seed,
        bf16=half,
        use_cpu=not torch.cuda.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        prediction_loss_only=True,
        use_liger_kernel=recipe.use_liger_kernel,
        torch_compile=recipe.torch_compile,
        fsdp=recipe.fsdp,  # type: ignore[arg-type]
        ddp_find_unused_parameters=None if recipe.fsdp else False,
        logging_steps=recipe.logging_steps,
        logging_first_step=True,
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        eval_strategy="steps" if evaluate else "no",
        eval_steps=recipe.eval_steps,
        save_steps=recipe.save_steps,
        save_total_limit=recipe.save_total_limit,
        disable_tqdm=True,  # it would print each line of the log; see Progress
        report_to="none",
    )
    use_one_device(arguments)
    return arguments


def use_one_device(arguments: TrainingArguments) -> None:
    """Keep a process to one GPU; of several, the Trainer would make one model with another global batch."""
    if arguments.n_gpu > 1:
        _log.warning(
            "%d GPUs, of which one is used: for all, torchrun --nproc-per-node N -m penchant train", arguments.n_gpu
        )
        arguments._n_gpu = 1
