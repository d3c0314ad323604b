"""Without torch the transformers extractor says what to install; this holds with and without torch here."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys

sys.modules["torch"] = None  # as if it were not installed

from penchant.errors import MissingExtra
from penchant.extract.base import Extractor

try:
    Extractor.load("transformers", "some/model")
except MissingExtra as error:
    print(error)
"""


def test_without_torch_the_install_command_is_given() -> None:
    result = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "pip install 'penchant[hf]'" in result.stdout
