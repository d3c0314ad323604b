"""The one door to OpenVINO: imported from here, it does not report to its makers.

OpenVINO's Python package sends a usage event at import, unless ``openvino_telemetry`` cannot be imported; it then
takes a stub of its own. Penchant's users did not ask to be counted.
"""

from __future__ import annotations

import sys
from typing import Any

_hidden: Any = sys.modules.get("openvino_telemetry")
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
try:
    import openvino
    import openvino_genai
finally:
    del sys.modules["openvino_telemetry"]
    if _hidden is not None:
        sys.modules["openvino_telemetry"] = _hidden

__all__ = ["openvino", "openvino_genai"]
