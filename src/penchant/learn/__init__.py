"""Feedback -> what each user wants: pure functions on arrays, without I/O."""
