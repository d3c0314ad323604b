"""How good an extractor is. Needs the ``train`` extra."""
