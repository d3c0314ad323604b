"""Preferences -> durable cards, one user's apart from every other's."""
