"""Simulated users in front of the real loop, to see what each mode is worth. Needs the ``train`` extra."""

from penchant.extras import require

require("train", "matplotlib", "scipy")
