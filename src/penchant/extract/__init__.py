"""Dialogue -> preferences: the window, the schema, and the extractors behind one protocol."""
