"""Indexes on GPUs: search, queue of calls, and placement."""
