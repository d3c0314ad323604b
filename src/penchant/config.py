"""Settings from the environment: the only module that reads it."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def models_home() -> Path:
    """Return the folder of fetched and prepared models: ``$PENCHANT_HOME/models`` or the user's cache folder."""
    home = os.environ.get("PENCHANT_HOME")
    return (Path(home).expanduser() if home else platformdirs.user_cache_path("penchant")) / "models"


def memory_path() -> Path:
    """Return the file of the memory: ``$PENCHANT_HOME/memory.db`` or one in the user's data folder."""
    home = os.environ.get("PENCHANT_HOME")
    return (Path(home).expanduser() if home else platformdirs.user_data_path("penchant")) / "memory.db"


def endpoint_key(openai: bool) -> str | None:
    """Return the key for an OpenAI-compatible server: ``PENCHANT_API_KEY``, else ``OPENAI_API_KEY`` if ``openai``.

    The latter goes with OpenAI, or with the server of ``OPENAI_BASE_URL``, and to no other.
    """
    return os.environ.get("PENCHANT_API_KEY") or (os.environ.get("OPENAI_API_KEY") if openai else None)


def endpoint_url() -> str | None:
    """Return the base URL of an OpenAI-compatible server: ``OPENAI_BASE_URL``."""
    return os.environ.get("OPENAI_BASE_URL")
