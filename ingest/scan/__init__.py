"""Scans of a collection: walk, changes since the last run, and file events."""
