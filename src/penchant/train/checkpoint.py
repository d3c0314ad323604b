"""GGUF tensors <-> a transformers causal LM.

llama.cpp's GGUF keeps the rows of Llama's query and key projections interleaved for its rotary embedding;
transformers keeps the two halves of a head after each other. Qwen3's rows are the same in both.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

from penchant.errors import ModelError
from penchant.models.gguf import Tensors

_ARCHITECTURES = {"llama": gguf.MODEL_ARCH.LLAMA, "qwen3": gguf.MODEL_ARCH.QWEN3}


def to_llama(tensors: Tensors, metadata: dict[str, Any]) -> LlamaForCausalLM:
    """Build a float32 model from the tensors and metadata of a SmolLM2 GGUF file."""
    config = LlamaConfig(
        vocab_size=tensors["token_embd.weight"].shape[0],
        hidden_size=metadata["llama.embedding_length"],
        intermediate_size=metadata["llama.feed_forward_length"],
        num_hidden_layers=metadata["llama.block_count"],
        num_attention_heads=metadata["llama.attention.head_count"],
        num_key_value_heads=metadata["llama.attention.head_count_kv"],
        max_position_embeddings=metadata["llama.context_length"],
        rms_norm_eps=metadata["llama.attention.layer_norm_rms_epsilon"],
        rope_parameters={"rope_type": "default", "rope_theta": metadata["llama.rope.freq_base"]},
        tie_word_embeddings=True,
        bos_token_id=metadata["tokenizer.ggml.bos_token_id"],
        eos_token_id=metadata["tokenizer.ggml.eos_token_id"],
        pad_token_id=metadata["tokenizer.ggml.padding_token_id"],
    )
    model = LlamaForCausalLM(config)
    state = {}
    for hf_name, name in tensor_names(model).items():
        heads = _heads(name, config)
        tensor = tensors[name]
        state[hf_name] = torch.from_numpy(_split_halves(tensor, heads) if heads else tensor)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


def gguf_tensors(model: PreTrainedModel) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield the GGUF name and the values of every weight; a tied output matrix is left out.

    Raises:
        ModelError: the model is neither llama nor qwen3, or has a weight that a GGUF file of its type cannot hold.
    """
    state = model.state_dict()
    for hf_name, name in tensor_names(model).items():
        tensor = state[hf_name].float().cpu().numpy()
        heads = _heads(name, model.config)
        yield name, _interleave(tensor, heads) if heads else tensor


def tensor_names(model: PreTrainedModel) -> dict[str, str]:
    """Return the GGUF name for each transformers name; a tied output matrix is left out.

    Raises:
        ModelError: the model is neither llama nor qwen3, or has a weight that a GGUF file of its type cannot hold.
    """
    config = model.config
    names = gguf.get_tensor_name_map(architecture(config.model_type), config.num_hidden_layers)
    found = {}
    for hf_name in model.state_dict():
        if hf_name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(hf_name, try_suffixes=(".weight",))
        if name is None:
            raise ModelError(
                f"a GGUF file of type {config.model_type} has no place for {hf_name}: "
                "merge the adapters, or take a model without it"
            )
        found[hf_name] = name
    return found


def architecture(model_type: str) -> gguf.MODEL_ARCH:
    """Return GGUF's architecture for a transformers model type.

    Raises:
        ModelError: it is neither llama nor qwen3.
    """
    if model_type not in _ARCHITECTURES:
        raise ModelError(f"no GGUF of a {model_type!r} model can be written: take {' or '.join(_ARCHITECTURES)}")
    return _ARCHITECTURES[model_type]


def _heads(name: str, config: Any) -> int | None:
    """Return the heads of a matrix whose rows GGUF interleaves, None for every other tensor."""
    if config.model_type != "llama":
        return None
    if name.endswith("attn_q.weight"):
        return int(config.num_attention_heads)
    return int(config.num_key_value_heads) if name.endswith("attn_k.weight") else None


def _split_halves(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.reshape(heads, -1, 2, tensor.shape[1]).swapaxes(1, 2)).reshape(tensor.shape)


def _interleave(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2)).reshape(tensor.shape)
