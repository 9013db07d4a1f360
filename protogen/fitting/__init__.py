"""Rows that fit the classes: statistics of their features, codes from these, and codes pushed apart."""
