"""Base weights and the trained difference -> a folder that openvino-genai loads in a second.

The merged weights go to OpenVINO as a float16 GGUF file; OpenVINO's own converter turns it into its
intermediate representation, which then stays in the folder in the GGUF's place (it loads four times as fast).
"""

from __future__ import annotations

from pathlib import Path

import gguf
from tqdm import tqdm

from penchant.errors import ModelError
from penchant.models.gguf import Tensors, build_tokenizer, read_metadata, read_tensors, write_tensors
from penchant.runtime import openvino_genai, release_signal_stack

FILES = (
    "openvino_model.xml",
    "openvino_model.bin",
    "openvino_tokenizer.xml",
    "openvino_tokenizer.bin",
    "openvino_detokenizer.xml",
    "openvino_detokenizer.bin",
    "tokenizer.json",
)
"""What a prepared folder holds."""


def prepare(base: Path, difference: Path | None, folder: Path) -> None:
    """Merge, convert and write all of ``FILES`` to ``folder``.

    Args:
        base: GGUF file of the base weights; also gives the tokeniser.
        difference: GGUF file of what training added, tensor by tensor; None: the base as it is.
        folder: an empty folder.

    Raises:
        ModelError: the difference does not fit the base, or OpenVINO did not convert the result.
    """
    with tqdm(total=4, desc="preparing the model", unit="step", disable=None, leave=False) as bar:
        tensors, metadata = read_tensors(base), read_metadata(base)
        bar.update()
        if difference is not None:
            merge(tensors, difference)
        bar.update()
        merged = folder / "merged.gguf"
        write_tensors(merged, tensors, gguf.GGMLQuantizationType.F16, metadata)
        bar.update()
        build_tokenizer(metadata).save(str(folder / "tokenizer.json"))
        _convert(merged)
        merged.unlink()
        bar.update()
    if missing := [name for name in FILES if not (folder / name).is_file()]:
        raise ModelError(f"OpenVINO did not write {', '.join(missing)}: is openvino-genai 2026.4 or newer installed?")


def merge(tensors: Tensors, difference: Path) -> None:
    """Add a difference to the tensors of its base, in place.

    Raises:
        ModelError: a tensor of the difference is not in the base, or has another shape.
    """
    for name, change in read_tensors(difference).items():
        if name not in tensors or tensors[name].shape != change.shape:
            raise ModelError(f"{difference.name} does not fit its base model: tensor {name}")
        tensors[name] = tensors[name] + change


def _convert(merged: Path) -> None:
    keep = {"enable_save_ov_model": True}
    scheduler = openvino_genai.SchedulerConfig()
    try:
        openvino_genai.ContinuousBatchingPipeline(merged, scheduler, "CPU", keep, keep)
    except RuntimeError as error:
        raise ModelError(f"OpenVINO cannot convert the model: {str(error).strip().splitlines()[-1]}") from error
    finally:
        release_signal_stack()
