"""An extractor without a model, to test code that uses Penchant."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from penchant.errors import PenchantError
from penchant.extract.base import Extractor, renumber
from penchant.extract.window import select_window, window_places
from penchant.types import Extraction, Turn


class ScriptedExtractor(Extractor):
    """Answers as a function says, from what a model would be shown.

    ``batch_sizes`` lists how many windows each batch had; ``closed`` says whether ``close`` was called.

    Args:
        script: the window (at most six turns, the last of them the user's) -> its extraction; a
            ``PenchantError`` that it raises makes that window's extraction not valid.
        batch_size: most windows in a batch.
    """

    def __init__(self, script: Callable[[Sequence[Turn]], Extraction], batch_size: int = 16) -> None:
        self.batch_size = batch_size
        self.batch_sizes: list[int] = []
        self.closed = False
        self._script = script

    def extract_batch(self, windows: Sequence[Sequence[Turn]]) -> list[Extraction]:
        """Ask the script about each window, in order."""
        self.batch_sizes.append(len(windows))
        return [self._extract_one(window) for window in windows]

    def close(self) -> None:
        """Note that the extractor was closed."""
        self.closed = True

    def _extract_one(self, window: Sequence[Turn]) -> Extraction:
        try:
            return renumber(self._script(select_window(window)), window_places(window))
        except PenchantError as error:
            return Extraction(valid=False, error=str(error))
