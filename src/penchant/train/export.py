"""A trained model in the forms it is used in; each is checked by what it answers."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import gguf
import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer

from penchant.errors import InputError, ModelError
from penchant.extract.answer import FORMS, ModelForm, write_form
from penchant.extract.base import Extractor
from penchant.extract.confidence import FILE
from penchant.extract.generator import MAX_ANSWER_TOKENS
from penchant.extract.schema import serialise
from penchant.extract.template import encode_messages
from penchant.extract.window import build_messages
from penchant.models.prepare import prepare
from penchant.runtime import openvino as ov
from penchant.runtime import openvino_genai as genai
from penchant.runtime import release_signal_stack
from penchant.train.gguf_export import write_gguf
from penchant.train.trained import Trained, answers
from penchant.types import LabelledWindow

Form = Literal["safetensors", "gguf-f16", "gguf-q8_0", "embedded"]

LEAST_AGREEMENT = 0.75
"""Least share of the sample on which a form must answer as the trained model does, to the letter.

Every form rounds: to bfloat16, to float16, to eight bits. Where two answers are near equally likely, that decides.
"""


@dataclass(frozen=True)
class Exported:
    """A form that was written, and how many windows of the sample it answers as the trained model does."""

    form: Form
    path: Path
    same: int
    sample: int


def check_forms(names: Sequence[str]) -> list[Form]:
    """Return the forms of these names, or all.

    Raises:
        InputError: there is no such form.
    """
    if unknown := [name for name in names if name not in get_args(Form)]:
        raise InputError(f"no form {unknown[0]!r}: choose among {', '.join(get_args(Form))}")
    return [form for form in get_args(Form) if form in names or not names]


def export(trained: Trained, folder: Path, forms: Sequence[Form], sample: Sequence[LabelledWindow]) -> list[Exported]:
    """Write a trained model in each form, and compare its answers with those of the trained weights in float32.

    Args:
        trained: what a run has trained.
        folder: gets the safetensors model itself, ``model-f16.gguf``, ``model-q8_0.gguf`` and ``embedded/``.
        forms: which.
        sample: windows to compare on.

    Raises:
        InputError: the folder holds something else, or a form that has been calibrated, or the sample is empty.
        ModelError: a form cannot hold this model, or answers otherwise than it does.
    """
    if not sample:
        raise InputError("there is no window to compare the forms on: give some")
    known = ("config.json", "model-*.gguf", "embedded", ".part-*")  # one of these is there after any export
    if folder.exists() and any(folder.iterdir()) and not any(any(folder.glob(name)) for name in known):
        raise InputError(f"{folder} is not empty and holds no exported model: give a new folder")
    if "embedded" in forms and (fitted := folder / "embedded" / FILE).exists():
        raise InputError(f"{fitted} was fitted for what is there: move it away, or name other forms with --form")
    folder.mkdir(parents=True, exist_ok=True)
    expected = answers(trained.model, trained.tokenizer, sample, trained.recipe)
    done = []
    for form in tqdm(forms, desc="export", unit="form", disable=None):
        path = _WRITERS[form](trained, folder)
        found = _READERS[form](trained, path, sample)
        if form == "embedded":  # it gives rules, under a grammar: compare these
            same = sum(
                rules == serialise(FORMS[trained.recipe.answer].read(text).preferences)
                for rules, text in zip(found, expected, strict=True)
            )
        else:
            same = sum(a == b for a, b in zip(found, expected, strict=True))
        if same < LEAST_AGREEMENT * len(sample):
            raise ModelError(
                f"{path} answers only {same} of {len(sample)} windows as the trained model does: do not use it"
            )
        done.append(Exported(form, path, same, len(sample)))
    return done


def _write_safetensors(trained: Trained, folder: Path) -> Path:
    part = folder / ".part-safetensors"
    shutil.rmtree(part, ignore_errors=True)
    copy.deepcopy(trained.model).to(torch.bfloat16).save_pretrained(part)
    trained.tokenizer.save_pretrained(part)
    write_form(part, ModelForm(prompt=trained.recipe.prompt, answer=trained.recipe.answer))
    for path in part.iterdir():
        path.replace(folder / path.name)
    part.rmdir()
    return folder


def _write_gguf(kind: gguf.GGMLQuantizationType) -> Callable[[Trained, Path], Path]:
    def write(trained: Trained, folder: Path) -> Path:
        path = folder / f"model-{kind.name.lower()}.gguf"
        write_gguf(trained.model, trained.tokenizer, path, kind)
        return path

    return write


def _write_embedded(trained: Trained, folder: Path) -> Path:
    part, target = folder / ".part-embedded", folder / "embedded"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    weights = folder / ".part-embedded.gguf"
    write_gguf(trained.model, trained.tokenizer, weights, gguf.GGMLQuantizationType.F16)
    prepare(weights, None, part)
    weights.unlink()
    write_form(part, ModelForm(prompt=trained.recipe.prompt, answer=trained.recipe.answer))
    trained.tokenizer.backend_tokenizer.save(str(part / "tokenizer.json"))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return target


def _read_safetensors(trained: Trained, path: Path, sample: Sequence[LabelledWindow]) -> list[str]:
    model = AutoModelForCausalLM.from_pretrained(path, dtype="float32")
    return answers(model, AutoTokenizer.from_pretrained(path), sample, trained.recipe)


def _read_gguf(trained: Trained, path: Path, sample: Sequence[LabelledWindow]) -> list[str]:
    """Answer by OpenVINO GenAI in float32, which reads the file as it is."""
    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    pipeline = genai.ContinuousBatchingPipeline(path, genai.SchedulerConfig(), "CPU", exact)
    config = genai.GenerationConfig()
    config.max_new_tokens = MAX_ANSWER_TOKENS
    config.eos_token_id = trained.tokenizer.eos_token_id
    config.stop_token_ids = {trained.tokenizer.eos_token_id}
    found = []
    for window in sample:
        ids = encode_messages(trained.tokenizer, build_messages(window.turns, trained.recipe.prompt))
        (result,) = pipeline.generate([ov.Tensor(np.array([ids], dtype=np.int64))], [config])
        found.append(trained.tokenizer.decode(result.m_generation_ids[0], skip_special_tokens=True))
    del pipeline
    release_signal_stack()
    return found


def _read_embedded(trained: Trained, path: Path, sample: Sequence[LabelledWindow]) -> list[str]:
    with Extractor.load(model=str(path)) as extractor:
        return [serialise(result.preferences) for result in extractor.extract_many(window.turns for window in sample)]


_WRITERS: dict[Form, Callable[[Trained, Path], Path]] = {
    "safetensors": _write_safetensors,
    "gguf-f16": _write_gguf(gguf.GGMLQuantizationType.F16),
    "gguf-q8_0": _write_gguf(gguf.GGMLQuantizationType.Q8_0),
    "embedded": _write_embedded,
}
_READERS: dict[Form, Callable[[Trained, Path, Sequence[LabelledWindow]], list[str]]] = {
    "safetensors": _read_safetensors,
    "gguf-f16": _read_gguf,
    "gguf-q8_0": _read_gguf,
    "embedded": _read_embedded,
}
