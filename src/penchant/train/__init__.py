"""Fine-tuning of the embedded model. Needs the ``train`` extra."""
