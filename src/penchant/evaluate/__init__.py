"""How good an extractor is. Needs the ``train`` extra."""

from penchant.extras import require

require("train", "matplotlib", "pyarrow", "scipy", "torch", "transformers")
