"""Pairs of files, their decoded media, the hub's vectors, and the batches that are drawn from them."""
