"""GGUF tensors <-> a transformers Llama model.

llama.cpp's GGUF keeps the rows of the query and key projections interleaved for its rotary embedding;
transformers keeps the two halves of a head after each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM

from penchant.models.gguf import Tensors

_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP_NAMES = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}


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
    for name, tensor in tensors.items():
        heads = _heads(name, config)
        state[_hf_name(name)] = torch.from_numpy(_split_halves(tensor, heads) if heads else tensor)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


def from_llama(model: LlamaForCausalLM, names: list[str]) -> Tensors:
    """Return the model's weights under the given GGUF names."""
    state = model.state_dict()
    tensors = {}
    for name in names:
        tensor = state[_hf_name(name)].float().numpy()
        heads = _heads(name, model.config)
        tensors[name] = _interleave(tensor, heads) if heads else tensor
    return tensors


def _hf_name(name: str) -> str:
    if name in _TOP_NAMES:
        return _TOP_NAMES[name]
    _, layer, part, _ = name.split(".")
    return f"model.layers.{layer}.{_NAMES[part]}.weight"


def _heads(name: str, config: LlamaConfig) -> int | None:
    if name.endswith("attn_q.weight"):
        return config.num_attention_heads
    return config.num_key_value_heads if name.endswith("attn_k.weight") else None


def _split_halves(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.reshape(heads, -1, 2, tensor.shape[1]).swapaxes(1, 2)).reshape(tensor.shape)


def _interleave(tensor: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.reshape(heads, 2, -1, tensor.shape[1]).swapaxes(1, 2)).reshape(tensor.shape)
