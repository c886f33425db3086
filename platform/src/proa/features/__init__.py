"""Features: Feast at the edge (`store`, `server`), and the online client that imports no Feast."""
