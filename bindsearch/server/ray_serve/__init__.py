"""A search service of several processes on a Ray cluster (Ray Serve)."""
