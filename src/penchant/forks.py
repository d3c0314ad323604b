"""What a forked process does before anything else: connections and threads of its parent are not its own."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable

_methods: list[weakref.WeakMethod[Callable[[], None]]] = []


def after_fork(method: Callable[[], None]) -> None:
    """Call a bound method in every process that is forked from now on, as long as its object is there."""
    _methods[:] = [each for each in _methods if each()]
    _methods.append(weakref.WeakMethod(method))


def _forked() -> None:
    for each in list(_methods):
        if method := each():
            method()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_forked)
