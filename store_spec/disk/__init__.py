"""Access to the files of a store: storage, locks, snapshots of committed states, and the commit protocol."""
