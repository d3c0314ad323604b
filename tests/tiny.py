"""A tiny SmolLM2-like model with random weights, in the forms the real one comes in."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np

from penchant.models.catalog import EMBEDDED, ModelSpec, Wheel
from penchant.models.gguf import Tensors, write_tensors

HIDDEN, FEED, LAYERS, HEADS, KV_HEADS = 64, 96, 2, 2, 1
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
MERGES = ["Ġ [", "Ġ[ ]", "Ġ[ {"]


def byte_alphabet() -> list[str]:
    """Return the 256 characters that stand for bytes in byte-level BPE."""
    from tokenizers.pre_tokenizers import ByteLevel

    return sorted(ByteLevel.alphabet())


def tiny_metadata() -> dict[str, object]:
    tokens = [*SPECIAL, *byte_alphabet(), "Ġ[", "Ġ[]", "Ġ[{"]
    kinds = [gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (len(tokens) - 3)
    head = HIDDEN // HEADS
    return {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.block_count": LAYERS,
        "llama.context_length": 8192,
        "llama.embedding_length": HIDDEN,
        "llama.feed_forward_length": FEED,
        "llama.attention.head_count": HEADS,
        "llama.attention.head_count_kv": KV_HEADS,
        "llama.rope.freq_base": 100000.0,
        "llama.attention.layer_norm_rms_epsilon": float(np.float32(1e-5)),
        "llama.vocab_size": len(tokens),
        "llama.rope.dimension_count": head,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(kind) for kind in kinds],
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.padding_token_id": 2,
        "tokenizer.chat_template": "{% for m in messages %}{{ m['content'] }}{% endfor %}",
    }


def tiny_tensors(seed: int, scale: float = 0.3) -> Tensors:
    rng = np.random.default_rng(seed)
    head = HIDDEN // HEADS
    shapes = {"token_embd.weight": (262, HIDDEN)}
    for layer in range(LAYERS):
        shapes |= {
            f"blk.{layer}.attn_norm.weight": (HIDDEN,),
            f"blk.{layer}.attn_q.weight": (HEADS * head, HIDDEN),
            f"blk.{layer}.attn_k.weight": (KV_HEADS * head, HIDDEN),
            f"blk.{layer}.attn_v.weight": (KV_HEADS * head, HIDDEN),
            f"blk.{layer}.attn_output.weight": (HIDDEN, HEADS * head),
            f"blk.{layer}.ffn_norm.weight": (HIDDEN,),
            f"blk.{layer}.ffn_gate.weight": (FEED, HIDDEN),
            f"blk.{layer}.ffn_up.weight": (FEED, HIDDEN),
            f"blk.{layer}.ffn_down.weight": (HIDDEN, FEED),
        }
    shapes["output_norm.weight"] = (HIDDEN,)
    return {
        name: (np.ones(shape) if "norm" in name else rng.normal(0, scale, shape)).astype(np.float32)
        for name, shape in shapes.items()
    }


def tiny_gguf(path: Path, seed: int = 0, scale: float = 0.3) -> Path:
    write_tensors(path, tiny_tensors(seed, scale), gguf.GGMLQuantizationType.F16, tiny_metadata())
    return path


def tiny_wheel(folder: Path) -> Path:
    """Pack a tiny base model as the real one is packed."""
    path = folder / EMBEDDED.base.filename
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tiny_gguf(folder / "base.gguf"), EMBEDDED.base_member)
    return path


def tiny_spec(folder: Path) -> tuple[ModelSpec, Path]:
    """Return a model made of a tiny base and a tiny difference, and the base's wheel."""
    wheel = tiny_wheel(folder)
    difference = folder / "difference.gguf"
    write_tensors(difference, tiny_tensors(1, 0.01), gguf.GGMLQuantizationType.Q8_0, tiny_metadata())
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    spec = replace(
        EMBEDDED,
        name="tiny",
        base=Wheel(EMBEDDED.base.requirement, EMBEDDED.base.filename, digest),
        difference=str(difference),
        difference_sha256=hashlib.sha256(difference.read_bytes()).hexdigest(),
    )
    return spec, wheel
