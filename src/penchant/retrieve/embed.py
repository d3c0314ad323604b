"""Embedding models: the embedded default, any sentence-transformers model, any OpenAI-compatible server."""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import openai
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from penchant.errors import ModelError, first_line
from penchant.extras import require
from penchant.models.bert import sentence_encoder
from penchant.models.minilm import minilm_folder
from penchant.runtime import openvino as ov
from penchant.runtime import release_signal_stack
from penchant.servers import connect, explain
from penchant.text import clean_text
from penchant.types import Embedder

MINILM = "all-MiniLM-L6-v2"
"""The embedded default."""

MAX_TOKENS = 256
"""all-MiniLM-L6-v2 reads no more of a text."""

CACHED_TEXTS = 4096
_BATCH = 32


def load_embedder(name: str = MINILM, *, base_url: str | None = None) -> Embedder:
    """Load an embedding model.

    Args:
        name: ``all-MiniLM-L6-v2``, on OpenVINO; else the id or folder of a sentence-transformers model; with
            ``base_url``, the model's name on that server.
        base_url: of an OpenAI-compatible server, e.g. ``http://localhost:8000/v1``.

    Raises:
        ModelError: the model cannot be fetched or loaded.
        InputError: the URL or the key cannot be used.
        MissingExtra: sentence-transformers is not installed.
    """
    if base_url:
        return EndpointEmbedder(name, base_url)
    return MiniLMEmbedder() if name == MINILM else HubEmbedder(name)


class LazyEmbedder:
    """Loads an embedding model when it is first asked.

    Args:
        name: as for ``load_embedder``.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._loaded: Embedder | None = None

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, dimensions).

        Raises:
            ModelError: the model cannot be fetched or loaded.
        """
        with self._lock:
            self._loaded = self._loaded or load_embedder(self.name)
        return self._loaded.embed(texts)


class MiniLMEmbedder:
    """all-MiniLM-L6-v2 on OpenVINO, in float32; fetched on first use. May be shared between threads.

    Raises:
        ModelError: the model cannot be fetched or loaded.
    """

    name = MINILM

    def __init__(self) -> None:
        folder = minilm_folder()
        try:
            config = json.loads((folder / "config.json").read_bytes())
            graph = sentence_encoder(load_file(folder / "model.safetensors"), config["num_attention_heads"])
            self._model: Any = ov.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except (OSError, SafetensorError, ValueError, KeyError) as error:
            raise ModelError(f"{folder} is damaged: remove this folder, and it is fetched again") from error
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.encode_special_tokens = True  # special tokens in a text are text
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._lock = threading.Lock()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, 384); recent texts are remembered."""
        with self._lock:
            found = {text: self._known[text] for text in texts if text in self._known}
        new = sorted(dict.fromkeys(text for text in texts if text not in found), key=len)
        for start in range(0, len(new), _BATCH):
            batch = new[start : start + _BATCH]
            found |= zip(batch, self._run(batch), strict=True)
        with self._lock:
            for text in found:
                self._known[text] = found[text]
                self._known.move_to_end(text)
            while len(self._known) > CACHED_TEXTS:
                self._known.popitem(last=False)
        return np.stack([found[text] for text in texts]) if texts else np.zeros((0, 384), np.float32)

    def close(self) -> None:
        """Free the model; it cannot be used afterwards."""
        self._model = None
        release_signal_stack()

    def __del__(self) -> None:
        """Free the model."""
        self.close()

    def _run(self, texts: Sequence[str]) -> NDArray[np.float32]:
        rows = [encoding.ids for encoding in self._tokenizer.encode_batch([clean_text(text) for text in texts])]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        model = self._model
        if model is None:
            raise ModelError("this embedder has been closed: load another")
        vectors: NDArray[np.float32] = model.create_infer_request().infer([ids, mask])[0]
        return vectors


class HubEmbedder:
    """Any sentence-transformers model, by its hub id or a folder.

    Raises:
        MissingExtra: sentence-transformers is not installed.
        ModelError: the model cannot be found or loaded.
    """

    def __init__(self, name: str) -> None:
        require("sentence-transformers", "sentence_transformers")
        from sentence_transformers import SentenceTransformer

        self.name = name
        self._lock = threading.Lock()
        try:
            self._model = SentenceTransformer(name)
        except Exception as error:  # the libraries raise all sorts
            raise ModelError(f"cannot load {name}: {first_line(error)}") from error

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, dimensions)."""
        with self._lock:
            vectors: NDArray[np.float32] = self._model.encode(
                [clean_text(text) for text in texts], normalize_embeddings=True, convert_to_numpy=True
            )
        return vectors.astype(np.float32)


_AT_ONCE = 256
"""Texts in one request; servers take some thousand at most."""


class EndpointEmbedder:
    """The embeddings of an OpenAI-compatible server.

    Raises:
        InputError: the URL or the key cannot be used.
    """

    def __init__(self, name: str, base_url: str, *, timeout: float = 30.0, retries: int = 2) -> None:
        self.name = name
        self._client = connect(base_url, timeout=timeout, retries=retries)

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, dimensions).

        Raises:
            ModelError: the server does not answer, or not with a vector for each text.
        """
        if not texts:
            return np.zeros((0, 0), np.float32)
        vectors = np.concatenate(
            [self._ask(texts[start : start + _AT_ONCE]) for start in range(0, len(texts), _AT_ONCE)]
        )
        unit: NDArray[np.float32] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit

    def _ask(self, texts: Sequence[str]) -> NDArray[np.float32]:
        try:
            answer = self._client.embeddings.create(
                model=self.name, input=[clean_text(text) or " " for text in texts], encoding_format="float"
            )
            rows = [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
            vectors = np.array(rows, np.float32)
        except (openai.OpenAIError, AttributeError, TypeError, ValueError) as error:
            reason = explain(self._client, error if isinstance(error, openai.OpenAIError) else str(error))
            raise ModelError(f"no embeddings from the server: {reason}") from error
        if vectors.ndim != 2 or len(vectors) != len(texts) or not np.isfinite(vectors).all():
            raise ModelError(
                f"no embeddings from the server: {len(rows)} vectors for {len(texts)} texts, or not finite"
            )
        return vectors
