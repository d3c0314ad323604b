"""Recipes: every value visible, errors that name the key, the global batch kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from penchant.data.plan import Joined, read_plan
from penchant.errors import InputError
from penchant.train.recipe import Recipe, make_recipe, read_recipe, write_recipe
from tests.conftest import ROOT

SHIPPED = [path for path in sorted((ROOT / "recipes").glob("*.yaml")) if not path.name.startswith("mix-")]


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_recipes_can_be_read(path: Path) -> None:
    assert read_recipe(path).model


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("mix-*.yaml")), ids=lambda path: path.name)
def test_the_files_of_shipped_mixes_are_there(path: Path) -> None:
    plan = read_plan(path)
    files = set(plan.evaluation_sets.values())
    for part in plan.parts.values():
        if isinstance(part, Path):
            files.add(part)
        elif isinstance(part, Joined):
            files.update(part.joined)
        else:
            files.update((part.wishes, part.reactions, *part.distractors))
    assert [str(file) for file in sorted(files) if not (ROOT / file).is_file()] == []


def test_the_published_recipe_is_the_model_cards() -> None:
    recipe = read_recipe(ROOT / "recipes" / "qwen3-0.6b-sft.yaml")
    assert (recipe.model, recipe.method, recipe.learning_rate) == ("Qwen/Qwen3-0.6B", "full", 2e-5)
    assert (recipe.global_batch_size, recipe.per_device_batch_size, recipe.num_train_epochs) == (128, 32, 1)
    assert (recipe.lr_scheduler_type, recipe.warmup_ratio, recipe.min_lr_ratio) == ("cosine", 0.05, 0.0)
    assert (recipe.optim, recipe.bf16, recipe.prompt) == ("adamw_torch_fused", True, "card")
    assert recipe.accumulation(4) == (32, 1)
    assert recipe.accumulation(1) == (32, 4)


def test_a_recipe_survives_its_file(recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("key", list(Recipe.model_fields))
def test_every_value_must_be_there(values: dict[str, Any], key: str) -> None:
    del values[key]
    with pytest.raises(InputError, match=f"^r.yaml: {key} is missing"):
        make_recipe(values, "r.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("learning_rat=1", "r.yaml: learning_rat is no key of a recipe; the keys are model, "),
        ("learning_rate=fast", "r.yaml: learning_rate Input should be a valid number"),
        ("learning_rate=-1", "r.yaml: learning_rate Input should be greater than 0"),
        ("prompt=poem", "r.yaml: prompt Input should be 'card', 'reference', 'guide' or 'brief'"),
        ("train=[]", "r.yaml: train "),
        ("lora_rank=8", "r.yaml: .*with method: full, lora_rank, lora_alpha and lora_dropout must be null"),
        ("method=lora", "r.yaml: .*with method: lora, give lora_rank"),
        ("save_steps=3", None),
        ("use_liger_kernel=true", "use_liger_kernel needs batching: padding-free"),
        ("logging_steps=4", "save_steps must be a multiple of logging_steps"),
        ("global_batch_size", "--set global_batch_size: give KEY=VALUE"),
        ("model=[", "--set model: the value cannot be read as YAML"),
    ],
)
def test_a_wrong_value_is_named(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, message: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(yaml.safe_dump(values))
    if message is None:
        assert read_recipe(Path("r.yaml"), [change])
    else:
        with pytest.raises(InputError, match=message):
            read_recipe(Path("r.yaml"), [change])


def test_a_misspelt_key_is_named_before_the_missing_one(values: dict[str, Any]) -> None:
    values["learning_rat"] = values.pop("learning_rate")
    with pytest.raises(InputError, match="learning_rat is no key of a recipe"):
        make_recipe(values, "r.yaml")


@pytest.mark.parametrize("text", ["", "- a\n- b", "a: [", "\x00", "just words"])
def test_what_is_no_recipe_is_said_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match="recipe"):
        read_recipe(path)
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(tmp_path / "absent.yaml")


@given(st.integers(1, 64), st.integers(1, 64), st.integers(1, 16))
def test_the_global_batch_is_kept(share: int, at_once: int, devices: int) -> None:
    published = yaml.safe_load(SHIPPED[0].read_text(encoding="utf-8"))
    changed = published | {"global_batch_size": share * devices, "per_device_batch_size": at_once}
    rows, steps = make_recipe(changed, "test").accumulation(devices)
    assert rows * steps * devices == share * devices
    assert 1 <= rows <= at_once


def test_a_batch_that_cannot_be_divided_is_an_error(recipe: Recipe) -> None:
    for devices in (3, 16):
        with pytest.raises(InputError, match=f"global_batch_size 8 cannot be divided among {devices} devices"):
            recipe.accumulation(devices)
