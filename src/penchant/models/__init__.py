"""Where the embedded model comes from: fetch, verify, merge, convert, cache."""
