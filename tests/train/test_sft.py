"""Training runs: they learn, go on after a kill as if nothing had happened, and mean the same on two processes."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, TrainingArguments

from penchant.errors import InputError, ModelError
from penchant.train import base
from penchant.train.log import read_log
from penchant.train.recipe import Recipe, make_recipe
from penchant.train.sft import FINAL, newest_checkpoint, train, use_one_device
from penchant.train.trained import load_trained

COMMAND = ["train", "recipe.yaml", "-o", "run"]
KILLED = """
import os, signal
from penchant.cli import main
from penchant.train.log import CsvLog

log = CsvLog.on_log

def die(self, args, state, control, **kwargs):
    log(self, args, state, control, **kwargs)
    if state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

CsvLog.on_log = die
main()
"""
NO_ROOM = """
import resource, signal
from penchant.cli import main

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
main()
"""
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """As many threads as the subprocesses have: with more, sums differ in the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe as a file in the working folder; the path is where a run may go."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("recipe.yaml").write_text(yaml.safe_dump(values))
    return tmp_path / "run"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def whole(runs: Path, recipe: Recipe) -> Path:
    """A run that nothing stopped, made once."""
    if not (runs / "whole" / FINAL).exists():
        train(recipe, runs / "whole")
    return runs / "whole"


def curve(run: Path) -> list[dict[str, str]]:
    return read_log(run / "log.csv")


def test_it_learns_and_goes_on_after_a_stop_as_if_nothing_had_happened(
    recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    losses = [float(row["loss"]) for row in curve(whole) if row["loss"]]
    assert len(losses) == 8  # 16 windows, 8 in a batch, 4 epochs
    assert losses[-1] < losses[0] - 1
    assert (whole / "loss.png").stat().st_size > 1000
    assert [row["step"] for row in curve(whole) if row["eval_loss"]] == ["4", "8"]

    stopped = train(recipe, tmp_path / "parts", stop_at=3)
    assert stopped.name == "checkpoint-3"
    parts = train(recipe, tmp_path / "parts")
    assert curve(tmp_path / "parts") == curve(whole)
    left, right = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in (whole / FINAL, parts))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_it_goes_on_after_a_kill(run: Path, recipe: Recipe, whole: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", KILLED, *COMMAND], capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
    assert curve(run)[-1]["step"] == "5"
    torn = run / "checkpoint-6"  # as a kill amid the writing of it leaves it
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"epoch": 3')
    with (run / "log.csv").open("a") as log:
        log.write("7,3.5,1.0\n6,3.")
    kept = newest_checkpoint(run)
    assert kept
    assert kept.name == "checkpoint-4"
    train(recipe, run)
    assert curve(run) == curve(whole)


def test_two_processes_are_one_with_the_doubled_batch(run: Path, recipe: Recipe, tmp_path: Path) -> None:
    train(recipe.model_copy(update={"per_device_batch_size": 8}), tmp_path / "one")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "penchant", *COMMAND]
    done = subprocess.run([sys.executable, *launch], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = curve(tmp_path / "one"), curve(run)
    assert [row["step"] for row in one] == [row["step"] for row in two]
    for left, right in zip(one, two, strict=True):
        for column in ("loss", "eval_loss", "grad_norm"):
            if left[column]:
                assert float(right[column]) == pytest.approx(float(left[column]), rel=2e-3), (left, right)


LORA = {"method": "lora", "lora_rank": 4, "lora_alpha": 8, "lora_dropout": 0.0, "num_train_epochs": 2}


def test_adapters_alone_move_and_are_merged(values: dict[str, Any], tmp_path: Path) -> None:
    folder = train(make_recipe(values | LORA, "test"), tmp_path / "run")
    assert (folder / "adapter_config.json").exists()
    before = AutoModelForCausalLM.from_pretrained(values["model"]).state_dict()
    merged = load_trained(tmp_path / "run").model.state_dict()
    moved = {name for name in before if not torch.equal(before[name], merged[name])}
    assert moved
    assert all("proj" in name for name in moved)


def test_frozen_embeddings_stay(values: dict[str, Any], tmp_path: Path) -> None:
    recipe = make_recipe(values | {"freeze_embeddings": True, "num_train_epochs": 1, "evaluation": None}, "test")
    trained = AutoModelForCausalLM.from_pretrained(train(recipe, tmp_path / "run")).state_dict()
    before = AutoModelForCausalLM.from_pretrained(values["model"]).state_dict()
    assert torch.equal(trained["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert not torch.equal(trained["model.norm.weight"], before["model.norm.weight"])


def test_a_run_goes_on_under_its_own_recipe_only(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe, tmp_path / "run", stop_at=2)
    before = sorted((tmp_path / "run").rglob("*"))
    with pytest.raises(InputError, match=r"holds a run with learning_rate: 0.003, not 0.1: use that recipe, or"):
        train(recipe.model_copy(update={"learning_rate": 0.1}), tmp_path / "run")
    assert sorted((tmp_path / "run").rglob("*")) == before
    with pytest.raises(InputError, match=r"no such file: absent.jsonl \(the recipe names it\)"):
        train(recipe.model_copy(update={"evaluation": Path("absent.jsonl")}), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.doc").touch()
    with pytest.raises(InputError, match="is not empty and holds no run"):
        train(recipe, tmp_path / "other")


def test_a_run_goes_on_with_its_own_data_only(recipe: Recipe, tmp_path: Path) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(recipe.train[0].read_bytes())
    changed = recipe.model_copy(update={"train": (copy,), "evaluation": None})
    train(changed, tmp_path / "run", stop_at=2)
    copy.write_bytes(copy.read_bytes().replace(b"be brief", b"be short"))
    with pytest.raises(InputError, match=r"copy.jsonl has changed since the run in"):
        train(changed, tmp_path / "run")


def test_a_run_goes_on_and_is_exported_with_its_own_shipped_model_only(
    values: dict[str, Any], tiny_qwen3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "smollm2_folder", lambda name: tiny_qwen3)
    recipe = make_recipe(values | LORA | {"model": base.SHIPPED}, "test")
    train(recipe, tmp_path / "run", stop_at=2)
    train(recipe, tmp_path / "run", stop_at=3)
    load_trained(tmp_path / "run")
    monkeypatch.setattr(base, "EMBEDDED", replace(base.EMBEDDED, difference_sha256="0" * 64))
    with pytest.raises(InputError, match="smollm2-135m-preferences has changed since the run in"):
        train(recipe, tmp_path / "run")
    with pytest.raises(ModelError, match=r"smollm2-135m-preferences has changed since .*: train its adapters"):
        load_trained(tmp_path / "run")


def test_a_checkpoint_of_another_model_is_named(recipe: Recipe, tmp_path: Path) -> None:
    train(recipe, tmp_path / "run", stop_at=2)
    weights = tmp_path / "run" / "checkpoint-2" / "model.safetensors"
    from safetensors.torch import load_file, save_file

    tensors = load_file(weights)
    save_file({name: tensor[:1] for name, tensor in tensors.items()}, weights, {"format": "pt"})
    with pytest.raises(ModelError, match="checkpoint-2 is of another model"):
        train(recipe, tmp_path / "run")


def test_sharding_without_a_gpu_is_an_error_and_writes_nothing(recipe: Recipe, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="set fsdp: false"):
        train(recipe.model_copy(update={"fsdp": True}), tmp_path / "run")
    with pytest.raises(InputError, match="cannot be divided"):
        train(recipe.model_copy(update={"global_batch_size": 0}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("model", ["/nowhere/model", "no-owner/no-such-model", "."])
def test_a_model_that_cannot_be_loaded_is_named(
    recipe: Recipe, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match=f"cannot load the model {model}"):
        train(recipe.model_copy(update={"model": model}), tmp_path / "run")


def test_a_full_disk_leaves_the_last_checkpoint(run: Path, recipe: Recipe) -> None:
    train(recipe, run, stop_at=2)
    full = subprocess.run([sys.executable, "-c", NO_ROOM, *COMMAND], capture_output=True, text=True, check=False)
    assert full.returncode == 1
    last = full.stderr.strip().splitlines()[-1]
    assert last.startswith("penchant: "), full.stderr[-2000:]
    assert "File too large" in last
    kept = newest_checkpoint(run)
    assert kept
    assert kept.name == "checkpoint-2"
    train(recipe, run)
    assert (run / FINAL / "model.safetensors").exists()


def test_a_run_that_diverges_is_ended_before_a_checkpoint_takes_it_in(values: dict[str, Any], tmp_path: Path) -> None:
    recipe = make_recipe(values | {"learning_rate": 1e30, "warmup_ratio": 0.0, "evaluation": None}, "test")
    with pytest.raises(ModelError, match=r"step 2: (loss|grad_norm) is nan, the run has diverged: lower learning_rate"):
        train(recipe, tmp_path / "run")
    assert newest_checkpoint(tmp_path / "run") is None


def test_a_start_that_failed_leaves_the_folder_to_another_recipe(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="fits max_length 1"):
        train(recipe.model_copy(update={"max_length": 1}), tmp_path / "run")
    assert train(recipe, tmp_path / "run", stop_at=2).name == "checkpoint-2"


def test_a_copy_of_a_checkpoint_is_none(recipe: Recipe, tmp_path: Path) -> None:
    checkpoint = train(recipe, tmp_path / "run", stop_at=2)
    checkpoint.rename(tmp_path / "run" / "checkpoint-2-bak")
    assert newest_checkpoint(tmp_path / "run") is None


def test_a_process_uses_one_of_several_gpus(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, per_device_train_batch_size=4)
    arguments._n_gpu = 4
    use_one_device(arguments)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 4)
    assert "torchrun" in caplog.text
