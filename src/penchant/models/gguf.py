"""GGUF weights in and out: dequantise a file, write one, and rebuild its tokeniser.

The base model comes as GGUF, what we trained is shipped as GGUF (a quantised difference), and the merged
weights are written as GGUF, because that is a file openvino-genai loads.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE

_FILE_TYPES = {
    gguf.GGMLQuantizationType.F16: gguf.LlamaFileType.MOSTLY_F16,
    gguf.GGMLQuantizationType.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    gguf.GGMLQuantizationType.Q5_0: gguf.LlamaFileType.MOSTLY_Q5_0,
    gguf.GGMLQuantizationType.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
}

Tensors = dict[str, NDArray[np.float32]]


def read_tensors(path: Path) -> Tensors:
    """Dequantise every tensor of a GGUF file to float32, row-major as PyTorch has it."""
    return {
        tensor.name: np.array(gguf.dequantize(tensor.data, tensor.tensor_type)).reshape(tensor.shape[::-1])
        for tensor in gguf.GGUFReader(path).tensors
    }


def read_metadata(path: Path) -> dict[str, Any]:
    """Return the key-value pairs of a GGUF file as Python values."""
    return {key: field.contents() for key, field in gguf.GGUFReader(path).fields.items()}


def build_tokenizer(metadata: dict[str, Any]) -> Tokenizer:
    """Rebuild the byte-level BPE tokeniser that the metadata of a SmolLM2 GGUF file describes."""
    tokens: list[str] = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(BPE({token: index for index, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [
        t
        for t, kind in zip(tokens, metadata["tokenizer.ggml.token_type"], strict=True)
        if kind == gguf.TokenType.CONTROL
    ]
    tokenizer.add_special_tokens(control)
    return tokenizer


def write_tensors(
    path: Path, tensors: Tensors, matrix_type: gguf.GGMLQuantizationType, metadata: dict[str, Any]
) -> None:
    """Write a GGUF file: matrices as ``matrix_type``, vectors (the norms) as float32.

    ``metadata`` is what ``read_metadata`` returns; its order is kept.
    """
    writer = gguf.GGUFWriter(path, metadata["general.architecture"])
    for key, value in metadata.items():
        if not key.startswith("GGUF.") and key not in ("general.architecture", "general.file_type"):
            _add(writer, key, value)
    writer.add_file_type(_FILE_TYPES[matrix_type])
    for name, tensor in tensors.items():
        kind = matrix_type if tensor.ndim == 2 else gguf.GGMLQuantizationType.F32
        writer.add_tensor(name, gguf.quantize(tensor, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    kind = gguf.GGUFValueType.UINT32 if type(value) is int else gguf.GGUFValueType.get_type(value)
    sub_type = None
    if kind is gguf.GGUFValueType.ARRAY:
        sub_type = gguf.GGUFValueType.INT32 if type(value[0]) is int else gguf.GGUFValueType.get_type(value[0])
    writer.add_key_value(key, value, kind, sub_type)
