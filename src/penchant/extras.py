"""Optional parts are guarded here, once, at their package's door."""

from __future__ import annotations

from importlib.util import find_spec

from penchant.errors import MissingExtra


def require(extra: str, *modules: str) -> None:
    """Check that the modules of an extra are installed.

    Raises:
        MissingExtra: one is not; the message holds the exact install command.
    """
    if missing := [module for module in modules if find_spec(module) is None]:
        raise MissingExtra(f"this part of penchant needs {missing[0]}: pip install 'penchant[{extra}]'")
