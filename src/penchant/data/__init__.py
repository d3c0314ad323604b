"""Windows for training: sources, labels, synthesis, mixing. Needs the ``train`` extra."""

from penchant.extras import require

require("train", "datasets", "datasketch", "pyarrow", "yaml")
