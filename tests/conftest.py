"""Shared fixtures: every test has a home of its own and no keys in its environment."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

from penchant.config import models_home

ROOT = Path(__file__).parent.parent
REAL_MODELS = models_home()
"""The models of the user who runs the tests, looked up before the tests get homes of their own."""

settings.register_profile("penchant", deadline=None)  # a test says what is right, not how fast the machine is
settings.load_profile("penchant")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("PENCHANT_HOME", "PENCHANT_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
