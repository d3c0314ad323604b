"""Recipes, fine-tuning, and the trained model in the forms it is used in. Needs the ``train`` extra."""

from penchant.extras import require

require("train", "accelerate", "datasets", "matplotlib", "peft", "torch", "transformers", "yaml")
