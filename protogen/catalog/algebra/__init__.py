"""What closed forms are built from: finite fields, Hadamard matrices, codes, lattices, block designs."""
