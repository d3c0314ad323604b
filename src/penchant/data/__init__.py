"""Windows for training: sources, labels, synthesis, mixing. Needs the ``train`` extra."""
