"""Train a small network with each head on real data, and compare them with a learned classifier."""
