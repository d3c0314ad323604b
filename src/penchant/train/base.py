"""The model that a run starts from: a hub id, a folder, or SmolLM2 from the package index, as it is or as shipped."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import datasets
import torch
import transformers
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from penchant.errors import ModelError, first_line
from penchant.extract.chat import END, START
from penchant.extract.template import encode_messages
from penchant.extract.window import build_messages
from penchant.models.catalog import EMBEDDED
from penchant.models.gguf import build_tokenizer, read_metadata, read_tensors
from penchant.models.prepare import merge
from penchant.models.store import ModelStore
from penchant.train.checkpoint import to_llama
from penchant.train.recipe import SHIPPED, SMOLLM2
from penchant.types import Turn

transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it takes a second
if not sys.stderr.isatty():
    datasets.disable_progress_bars()


def load_base(name: str, attn_implementation: str = "sdpa") -> tuple[Any, Any]:
    """Return a model, in float32, and its tokenizer.

    Args:
        name: hub id, folder, ``smollm2-135m-instruct``, or ``smollm2-135m-preferences`` for the shipped model.
        attn_implementation: as ``from_pretrained`` takes it.

    Raises:
        ModelError: it cannot be found or loaded, or has no end-of-turn token or no chat template that takes a system
            message.
    """
    folder = str(smollm2_folder(name)) if name in (SMOLLM2, SHIPPED) else name
    if Path(folder).is_absolute() and not Path(folder).is_dir():
        raise ModelError(f"cannot load the model {folder}: no such folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32", attn_implementation=attn_implementation)
    except Exception as error:  # of a damaged file or an unknown kernel the libraries raise all sorts
        raise ModelError(f"cannot load the model {name}: {first_line(error)}") from error
    if tokenizer.chat_template is None or tokenizer.eos_token_id is None:
        raise ModelError(f"{name} has no chat template or no end-of-turn token: give a chat model")
    try:
        encode_messages(tokenizer, build_messages([Turn(role="user", content="a test")], "card"))
    except (TemplateError, ValueError) as error:
        raise ModelError(f"{name}'s chat template cannot be used: {first_line(error)}") from error
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return model, tokenizer


def hash_base(name: str) -> dict[str, str]:
    """Return what the weights of a model that comes with Penchant hash to, by its name; nothing for another model."""
    hashes = {SMOLLM2: EMBEDDED.base.sha256, SHIPPED: EMBEDDED.base.sha256 + EMBEDDED.difference_sha256}
    return {name: hashes[name]} if name in hashes else {}


def has_fast_bfloat16(device: str) -> bool:
    """Say whether bfloat16 is faster than float32 on ``cuda`` or ``cpu``; without AVX-512 it takes 20 times as long."""
    return device != "cpu" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def smollm2_folder(name: str = SMOLLM2) -> Path:
    """Return a Hugging Face folder of SmolLM2-135M-Instruct, or of the shipped model; it is fetched and written once.

    It lies beside the prepared model, and goes with it when that is removed.

    Raises:
        ModelError: it cannot be fetched.
    """
    store = ModelStore.default()
    difference = EMBEDDED.difference_path if name == SHIPPED else None

    def make(folder: Path) -> None:
        gguf = store.fetch_base(EMBEDDED, folder)
        write_hf_folder(gguf, folder, difference)
        gguf.unlink()

    return store.once(f"{EMBEDDED.name}/{EMBEDDED.fingerprint if difference else 'base'}-hf", make)


def write_hf_folder(gguf: Path, folder: Path, difference: Path | None = None) -> None:
    """Write what transformers loads from a SmolLM2 GGUF file, with a difference added to its weights."""
    metadata, tensors = read_metadata(gguf), read_tensors(gguf)
    if difference is not None:
        merge(tensors, difference)
    to_llama(tensors, metadata).save_pretrained(folder)
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=build_tokenizer(metadata), bos_token=START, eos_token=END, pad_token=END
    )
    tokenizer.chat_template = metadata["tokenizer.chat_template"]
    tokenizer.save_pretrained(folder)
