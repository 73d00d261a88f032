"""A store on disk: the only way to its files, one committed state, and the protocol by which another follows."""
