"""Shared fixtures: every test has a home of its own and no keys in its environment."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from penchant.config import models_home

pytest_plugins = ["tests.lessons"]

ROOT = Path(__file__).parent.parent
REAL_MODELS = models_home().absolute()
"""The models of the user who runs the tests, looked up before the tests get homes of their own."""

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two runs may go on beside each other; torch reads it when imported

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # in the background; processes under test would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("penchant", deadline=None)  # a test says what is right, not how fast the machine is
settings.load_profile("penchant")


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in ("PENCHANT_HOME", "PENCHANT_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def real_models(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The user's models, fetched once and not for every run of the tests, and no memory beside them."""
    REAL_MODELS.mkdir(parents=True, exist_ok=True)
    home = tmp_path_factory.mktemp("penchant")
    (home / "models").symlink_to(REAL_MODELS)
    monkeypatch.setenv("PENCHANT_HOME", str(home))  # after _own_home: what is autouse comes first
