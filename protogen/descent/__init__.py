"""Numerical minimisation over sets of unit rows: losses, steps, the loop, its states on disk."""
