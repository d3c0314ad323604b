"""Recipes survive the way to LLaMA-Factory's settings and back; nothing that changes a training is lost silently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

pytest.importorskip("torch")

from penchant.errors import InputError
from penchant.train.llama_factory_settings import make_settings, read_recipe
from penchant.train.recipe import Recipe, make_recipe
from tests.conftest import ROOT

LORA = {"method": "lora", "lora_rank": 16, "lora_alpha": 48.0, "lora_dropout": 0.05}

# As LLaMA-Factory's own examples write them.
THEIRS = """\
### model
model_name_or_path: Qwen/Qwen3-4B-Instruct-2507
trust_remote_code: true
### method
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
### dataset
dataset: identity, prefs
template: qwen3_nothink
cutoff_len: 4096
overwrite_cache: true
preprocessing_num_workers: 16
dataloader_num_workers: 4
### output
output_dir: saves/qwen3-4b/lora/sft
logging_steps: 10
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 1e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
ddp_timeout: 180000000
resume_from_checkpoint: null
val_size: 0
packing: false
max_steps: -1
"""


def recipe(**changes: Any) -> Recipe:
    """Return the published recipe, changed."""
    published = yaml.safe_load((ROOT / "recipes" / "qwen3-0.6b-sft.yaml").read_text(encoding="utf-8"))
    return make_recipe(published | changes, "test")


def settings(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "train.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        LORA,
        {"min_lr_ratio": 0.1, "seed": 7, "weight_decay": 0.05, "warmup_ratio": 0.0, "optim": "adafactor"},
        {"lr_scheduler_type": "linear", "gradient_checkpointing": True, "fsdp": True},
        {"use_liger_kernel": True, "batching": "padding-free"},
        {"attn_implementation": "flash_attention_2", "torch_compile": True, "bf16": False, "num_train_epochs": 2},
        {"model": "meta-llama/Llama-3.2-1B-Instruct", "max_length": 4096, "logging_steps": 5, "eval_steps": 7},
    ],
)
def test_a_recipe_survives_the_way_there_and_back(tmp_path: Path, changes: dict[str, Any], devices: int) -> None:
    original = recipe(**changes)
    path = settings(tmp_path, yaml.safe_dump(make_settings(original, True, devices)))
    data = {
        "train": (tmp_path / "windows" / "penchant_train.jsonl",),
        "evaluation": tmp_path / "windows" / "penchant_evaluation.jsonl",
    }
    assert read_recipe(path, devices) == original.model_copy(update=data)


def test_the_engine_may_differ_and_nothing_else(tmp_path: Path) -> None:
    original = recipe(batching="padding-free", attn_implementation="kernels-community/vllm-flash-attn3", **LORA)
    original = original.model_copy(update={"freeze_embeddings": True})  # as with any adapters
    back = read_recipe(settings(tmp_path, yaml.safe_dump(make_settings(original, False, 1))))
    differing = {key for key in Recipe.model_fields if getattr(back, key) != getattr(original, key)}
    differing -= {"train", "evaluation", "eval_steps"}  # there is no evaluation
    assert differing == {"batching", "attn_implementation", "freeze_embeddings"}
    assert back.evaluation is None


@pytest.mark.parametrize(
    ("model", "found"),
    [
        ("Qwen/Qwen3-0.6B", "qwen3_nothink"),
        ("Qwen/Qwen2.5-0.5B-Instruct", "qwen"),
        ("smollm2-135m-instruct", "smollm2"),
        ("meta-llama/Llama-3.2-1B-Instruct", None),
    ],
)
def test_each_model_has_its_chat_template(model: str, found: str | None) -> None:
    assert make_settings(recipe(model=model), True, 1).get("template") == found


def test_the_model_is_one_that_can_be_loaded_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("local").mkdir()
    names = [
        make_settings(recipe(model=name), True, 1)["model_name_or_path"] for name in ("local", "smollm2-135m-instruct")
    ]
    assert names == [str(tmp_path / "local"), "HuggingFaceTB/SmolLM2-135M-Instruct"]


def test_what_llama_factory_cannot_do_is_refused() -> None:
    with pytest.raises(InputError, match="set freeze_embeddings to false"):
        make_settings(recipe(freeze_embeddings=True), True, 1)
    with pytest.raises(InputError, match="cannot be divided among 3 devices"):
        make_settings(recipe(), True, 3)


def test_their_example_is_read(tmp_path: Path) -> None:
    found = read_recipe(settings(tmp_path, THEIRS), devices=2, prompt="reference")
    assert found.model == "Qwen/Qwen3-4B-Instruct-2507"
    assert (found.method, found.lora_rank, found.lora_alpha, found.lora_dropout) == ("lora", 8, 16, 0)
    assert [path.name for path in found.train] == ["identity.jsonl", "prefs.jsonl"]
    assert found.evaluation is None
    assert (found.global_batch_size, found.per_device_batch_size) == (16, 1)
    assert (found.learning_rate, found.warmup_ratio, found.num_train_epochs) == (1e-4, 0.1, 3)
    assert (found.prompt, found.max_length, found.eval_steps) == ("reference", 4096, 10)
    assert (found.gradient_checkpointing, found.attn_implementation) == (True, "sdpa")
    assert found.save_total_limit >= 1000


def test_what_is_left_out_has_llama_factorys_defaults(tmp_path: Path) -> None:
    found = read_recipe(settings(tmp_path, "model_name_or_path: a/b\ndataset: x"))
    assert (found.method, found.lora_rank, found.lora_alpha) == ("lora", 8, 16)
    assert (found.learning_rate, found.lr_scheduler_type, found.warmup_ratio) == (5e-5, "linear", 0)
    assert (found.global_batch_size, found.num_train_epochs, found.max_length, found.seed) == (8, 3, 2048, 42)


@pytest.mark.parametrize(
    "line",
    [
        "stage: dpo",
        "train_on_prompt: true",
        "lora_target: q_proj,v_proj",
        "max_samples: 1000",
        "val_size: 0.1",
        "quantization_bit: 4",
        "packing: true",
        "neat_packing: true",
        "pure_bf16: true",
        "use_dora: true",
        "neftune_noise_alpha: 5",
        "max_steps: 100",
        "lr_scheduler_kwargs: {num_cycles: 2}",
        "a_key_of_tomorrow: [1]",
    ],
)
def test_a_key_that_changes_the_training_is_named(tmp_path: Path, line: str) -> None:
    text = f"model_name_or_path: a/b\ndataset: x\nfinetuning_type: lora\n{line}\n"
    with pytest.raises(
        InputError, match=rf"train\.yaml: a recipe has nothing like {line.partition(':')[0]}: "
    ) as error:
        read_recipe(settings(tmp_path, text))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("finetuning_type: freeze", "method"),
        ("optim: lion_32bit", "optim"),
        ("lr_scheduler_type: polynomial", "lr_scheduler_type"),
        ("lr_scheduler_type: cosine_with_min_lr", "lr_scheduler_kwargs: expected"),
        ("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: x}", "min_lr: expected a number"),
        (
            "lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-6}\nlearning_rate: 0",
            "learning_rate",
        ),
        ("num_train_epochs: 2.5", "num_train_epochs"),
        ("warmup_steps: 100", "warmup_steps: give the share"),
        ("warmup_steps: [1]", "warmup_steps: expected a number"),
        ("learning_rate: fast", "learning_rate"),
        ("per_device_train_batch_size: many", "per_device_train_batch_size: expected a number, not 'many'"),
        ("gradient_accumulation_steps: 0", "global_batch_size"),
        ("lora_rank: {}", "lora_rank: expected a number"),
        ("eval_dataset: a,b", "one evaluation set, not 2"),
        ("logging_steps: 300", "save_steps must be a multiple of logging_steps"),
        ("dataset: ''", "train"),
        ("model_name_or_path: ''", "model"),
    ],
)
def test_a_value_that_a_recipe_cannot_have_is_named(tmp_path: Path, line: str, reason: str) -> None:
    keys = {part.partition(":")[0] for part in line.splitlines()}
    text = "\n".join(
        [
            line,
            *(f"{key}: {value}" for key, value in (("model_name_or_path", "a/b"), ("dataset", "x")) if key not in keys),
        ]
    )
    with pytest.raises(InputError) as error:
        read_recipe(settings(tmp_path, text))
    assert reason in str(error.value)
    assert str(tmp_path / "train.yaml") in str(error.value)


def test_the_lowest_rate_may_be_given_itself(tmp_path: Path) -> None:
    text = "model_name_or_path: a/b\ndataset: x\nlearning_rate: 2e-5\nlr_scheduler_type: cosine_with_min_lr\n"
    found = read_recipe(settings(tmp_path, f"{text}lr_scheduler_kwargs: {{min_lr: 5e-6}}\n"))
    assert (found.lr_scheduler_type, found.learning_rate, found.min_lr_ratio) == ("cosine", 2e-5, pytest.approx(0.25))


def test_files_that_hold_no_settings_are_named(tmp_path: Path) -> None:
    for content in (b"- a\n", b"", b"\xff\xfe\x00", b"a: [", b"a: b: c"):
        path = tmp_path / "train.yaml"
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"train\.yaml") as error:
            read_recipe(path)
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="cannot read the settings"):
        read_recipe(tmp_path / "gone.yaml")
