"""A transformers causal LM and its tokeniser -> one GGUF file, with the metadata that llama.cpp's converter writes."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGMLQuantizationType
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from penchant.errors import InputError, ModelError
from penchant.files import whole
from penchant.train.checkpoint import architecture, gguf_tensors

_FILE_TYPES = {
    GGMLQuantizationType.F16: gguf.LlamaFileType.MOSTLY_F16,
    GGMLQuantizationType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
}

_QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_level(use_regex: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}


_PRE_TOKENIZERS = {
    "smollm": [{"type": "Digits", "individual_digits": True}, _byte_level(use_regex=True)],
    "qwen2": [
        {"type": "Split", "pattern": {"Regex": _QWEN_SPLIT}, "behavior": "Isolated", "invert": False},
        _byte_level(use_regex=False),
    ],
    "gpt-2": [_byte_level(use_regex=True)],
}
"""llama.cpp's name for each way of splitting a text, as ``tokenizers`` serialises it (``trim_offsets`` left out)."""

_NORMALIZERS = (None, {"type": "NFC"})
"""llama.cpp does not normalise; as Qwen's own GGUF files do, ours leave it to the caller to give composed text."""

_ASSUMED = {"hidden_act": "silu", "use_sliding_window": False, "rope_type": "default"}
"""What those who read a GGUF file of these architectures take for granted."""


def write_gguf(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, matrix_type: GGMLQuantizationType
) -> None:
    """Write a model of type llama or qwen3; the file appears whole or not at all.

    Args:
        model: its adapters merged, if it had any.
        tokenizer: a byte-level BPE that splits text as GPT-2, SmolLM2 or Qwen do.
        path: where to; its stem becomes the model's name.
        matrix_type: F16 or Q8_0; vectors stay float32, and a matrix whose rows Q8_0 cannot divide is F16.

    Raises:
        InputError: another ``matrix_type``.
        ModelError: the model or its tokeniser is of a kind that such a file cannot hold, or a weight is not finite.
    """
    if matrix_type not in _FILE_TYPES:
        raise InputError(f"no GGUF of type {matrix_type.name} can be written: choose F16 or Q8_0")
    architecture_name = gguf.MODEL_ARCH_NAMES[architecture(model.config.model_type)]
    _check(model.config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as part:
        writer = gguf.GGUFWriter(part, architecture_name)
        writer.add_type(gguf.GGUFType.MODEL)
        writer.add_name(path.stem)
        _add_shape(writer, model.config)
        writer.add_file_type(_FILE_TYPES[matrix_type])
        writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
        _add_tokenizer(writer, tokenizer, model.config)
        for name, tensor in gguf_tensors(model):
            kind = _kind(name, tensor, matrix_type)
            writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
        with closing(writer):
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()


def _check(config: Any) -> None:
    found = config.to_dict() | config.rope_parameters
    for key, value in _ASSUMED.items():
        if found.get(key, value) != value:
            raise ModelError(f"no GGUF of a model with {key} {found[key]!r} can be written, only with {value!r}")


def _kind(name: str, tensor: NDArray[np.float32], matrix_type: GGMLQuantizationType) -> GGMLQuantizationType:
    if not np.abs(tensor).max() <= np.finfo(np.float16).max:  # the comparison is False for NaN, too
        raise ModelError(f"{name} holds NaN or a value beyond float16: the training diverged, take an older checkpoint")
    if tensor.ndim == 1:
        return GGMLQuantizationType.F32
    block_size, _ = gguf.GGML_QUANT_SIZES[matrix_type]
    return matrix_type if tensor.shape[1] % block_size == 0 else GGMLQuantizationType.F16


def _add_shape(writer: gguf.GGUFWriter, config: Any) -> None:
    head_size = config.head_dim
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    if config.model_type == "llama":
        writer.add_vocab_size(config.vocab_size)
        writer.add_rope_dimension_count(head_size)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    tokens, types = _vocabulary(state, config.vocab_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(state))
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    for role, add in (
        ("bos", writer.add_bos_token_id),
        ("eos", writer.add_eos_token_id),
        ("unk", writer.add_unk_token_id),
        ("pad", writer.add_pad_token_id),
    ):
        number = _special(role, tokenizer, config)
        if number is not None:
            add(number)
    writer.add_add_bos_token(tokenizer("").input_ids[:1] == [tokenizer.bos_token_id])
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.get_chat_template())


def _special(role: str, tokenizer: PreTrainedTokenizerBase, config: Any) -> int | None:
    """Return the tokeniser's id of a special token, else the model's: Qwen's BOS is known to the model alone."""
    number: int | list[int] | None = getattr(tokenizer, f"{role}_token_id")
    if number is None:
        number = getattr(config, f"{role}_token_id", None)
    return number[0] if isinstance(number, list) else number


def _vocabulary(state: dict[str, Any], size: int) -> tuple[list[str], list[gguf.TokenType]]:
    """Return a token and its type for every row of the embedding; rows without a token are unused."""
    tokens = [f"[PAD{row}]" for row in range(size)]
    types = [gguf.TokenType.UNUSED] * size
    added = {token["id"]: token for token in state["added_tokens"]}
    vocabulary = {row: token for token, row in state["model"]["vocab"].items()}
    vocabulary |= {row: token["content"] for row, token in added.items()}
    if max(vocabulary) >= size:
        raise ModelError(
            f"the tokeniser has tokens up to {max(vocabulary)}, the model {size}: they do not belong together"
        )
    for row, token in vocabulary.items():
        tokens[row] = token
        types[row] = _type(added.get(row))
    return tokens, types


def _type(added: dict[str, Any] | None) -> gguf.TokenType:
    if added is None:
        return gguf.TokenType.NORMAL
    looks_special = added["content"].startswith("<|") and added["content"].endswith("|>")  # Qwen's <|fim_prefix|> etc.
    return gguf.TokenType.CONTROL if added["special"] or looks_special else gguf.TokenType.USER_DEFINED


def _pre_tokenizer(state: dict[str, Any]) -> str:
    """Return llama.cpp's name for how the tokeniser splits a text before merging."""
    found = state["pre_tokenizer"] or {}
    steps = [
        {key: value for key, value in step.items() if key != "trim_offsets"}
        for step in found.get("pretokenizers", [found])
    ]
    for name, expected in _PRE_TOKENIZERS.items():
        if steps == expected and state["model"]["type"] == "BPE" and state["normalizer"] in _NORMALIZERS:
            return name
    raise ModelError(
        f"a GGUF file cannot hold this tokeniser: take one that splits text as {', '.join(_PRE_TOKENIZERS)} do"
    )
