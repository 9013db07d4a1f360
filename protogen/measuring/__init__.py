"""What is measured on a set: angles, tiles of the Gram matrix, statistics over all pairs."""
