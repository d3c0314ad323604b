"""The one door to OpenVINO: imported from here, it does not report to its makers.

OpenVINO's Python package sends a usage event at import, unless ``openvino_telemetry`` cannot be imported; it then
takes a stub of its own. Penchant's users did not ask to be counted.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Any, ClassVar

_hidden: Any = sys.modules.get("openvino_telemetry")
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
try:
    import openvino
    import openvino_genai
finally:
    del sys.modules["openvino_telemetry"]
    if _hidden is not None:
        sys.modules["openvino_telemetry"] = _hidden

__all__ = ["openvino", "openvino_genai", "release_signal_stack"]

_SS_DISABLE = 2


class _SignalStack(ctypes.Structure):
    """``stack_t`` of sigaltstack(2), as Linux lays it out."""

    _fields_: ClassVar = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def release_signal_stack() -> None:
    """Take the thread's ordinary stack back for signals; call this whenever a model has been freed.

    OpenVINO's CPU plugin sets an alternate stack for them, which is gone with the model: the next Ctrl-C would
    crash the process.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_SignalStack(None, _SS_DISABLE, 0)), None)
