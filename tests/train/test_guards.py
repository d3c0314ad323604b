"""What a run is kept from: taking in a loss that is no number, and using a GPU more than it was started for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from transformers import TrainingArguments

from penchant.errors import InputError, ModelError
from penchant.train.recipe import Recipe, make_recipe
from penchant.train.sft import newest_checkpoint, train, use_one_device

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")


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
