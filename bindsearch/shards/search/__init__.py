"""Searches over shards: what each does, and the router that makes one answer of it."""
