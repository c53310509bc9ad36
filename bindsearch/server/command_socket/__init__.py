"""Answers of a running server to commands, over a Unix socket."""
