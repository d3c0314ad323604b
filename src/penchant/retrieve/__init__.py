"""A query and a user's cards -> the cards that may apply, ranked."""
