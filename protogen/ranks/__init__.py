"""Several processes that work on one thing: what they say to each other, and how they are started."""
