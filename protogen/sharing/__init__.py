"""Other places with the layout of a store: transport, remotes, sync."""
