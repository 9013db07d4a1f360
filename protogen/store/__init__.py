"""The store: a directory of immutable files, and what finds, makes, pins and removes them."""
