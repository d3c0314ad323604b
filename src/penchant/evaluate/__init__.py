"""How good an extractor is. Needs the ``train`` extra."""

from penchant.extras import require

require("train", "bm25s", "matplotlib", "pyarrow", "scipy", "torch", "transformers")
