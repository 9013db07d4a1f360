"""How many lines fit into R^d within a coherence."""
