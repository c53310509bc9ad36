"""The store on disk: configuration, lock, catalog, vector files, snapshots and the writer."""
