"""The default extractor: a small encoder as the gate, then fine-tuned SmolLM2-135M, on the CPU, without torch.

The gate reads the user's turns and lets many of the windows without a preference go at once. For the others the
language model writes its likeliest answer and, unless that surely says "no rule", several by chance; what they agree on
becomes candidates, each with a calibrated probability of being right and the words it rests on. The operating point
says how probable a rule must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from penchant.errors import InputError, ModelError
from penchant.extract.answer import read_form
from penchant.extract.base import Extractor
from penchant.extract.choose import choose
from penchant.extract.confidence import FILE, Confidence, Point, check_point, load_confidence
from penchant.extract.encoder import Encoder
from penchant.extract.finder import Finder
from penchant.extract.generator import BATCH_SIZE
from penchant.models.catalog import EMBEDDED
from penchant.models.fetch import sha256
from penchant.models.store import ModelStore
from penchant.types import Extraction, Turn

WEIGHTS = Path(str(files("penchant.models") / "weights"))
"""What is shipped: the encoder, and the calibration of the shipped model."""


class EmbeddedExtractor(Extractor):
    """SmolLM2-135M-Instruct, fine-tuned for this task; fetched and prepared on first use.

    Args:
        model: a folder that ``penchant export`` wrote; None: the shipped model. A folder without ``confidence.json``
            (``penchant.evaluate.fit`` writes it) gives the rules of the greedy answer, with the confidence it wrote.
        point: ``balanced``, the best F1, or ``recall``.
        gate: let the encoder decide which windows are read at all.

    Raises:
        InputError: no such operating point, or a model without ``confidence.json`` cannot have it.
        ModelError: the model cannot be fetched, prepared or loaded, or its ``confidence.json`` was fitted for another.
    """

    batch_size = BATCH_SIZE

    def __init__(self, model: str | None = None, *, point: Point = "balanced", gate: bool = True) -> None:
        self._point, self._gate, self._closed = check_point(point), gate, False
        folder = Path(model) if model else ModelStore.default().ensure(EMBEDDED)
        calibration = folder / FILE if model else WEIGHTS / FILE
        self._confidence = load_confidence(calibration) if calibration.exists() or not model else None
        if not self._confidence and (point != "balanced" or not gate):
            raise InputError(f"{folder} has no {FILE}, and so no gate and no point {point!r}: write it first")
        if self._confidence and model:
            _check_fit(self._confidence, folder)
        self._encoder = Encoder(WEIGHTS / "encoder") if self._confidence else None
        try:
            self._finder = Finder(folder, read_form(folder), self._encoder)
        except ModelError as error:
            hint = "run `penchant models remove`, then `pull`"
            if model:
                hint = "give a folder that Penchant prepared, of an export its folder `embedded`"
            raise ModelError(f"cannot load the embedded model in {folder} ({error}): {hint}") from error

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Extract from windows, as many at once as the key-value cache holds; if the model fails, none is valid."""
        try:
            return self._extract(windows)
        except ModelError as error:
            if self._closed:
                raise
            return [Extraction(valid=False, error=str(error))] * len(windows)

    def close(self) -> None:
        """Free the models once they are idle; the extractor cannot be used afterwards."""
        self._closed = True
        self._finder.close()
        if self._encoder:
            self._encoder.close()

    def _extract(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        if self._confidence is None or self._encoder is None:
            return self._finder.answer(windows)
        gates = self._encoder.probabilities(windows).tolist()
        read = [i for i, gate in enumerate(gates) if gate >= self._confidence.gate or not self._gate]
        weighing = self._confidence.weighing
        found = self._finder.find([windows[i] for i in read], [gates[i] for i in read], weighing.samples)
        results = [Extraction()] * len(windows)
        for index, findings in zip(read, found, strict=True):
            results[index] = choose(findings, weighing, self._point)
        return results


def _check_fit(confidence: Confidence, folder: Path) -> None:
    weights = {"model": folder / "openvino_model.bin", "encoder": WEIGHTS / "encoder" / "encoder.bin"}
    for name, path in weights.items():
        if sha256(path) != getattr(confidence, name):
            raise ModelError(f"{folder / FILE} was fitted for another {name}: fit it again (penchant.evaluate.fit)")
