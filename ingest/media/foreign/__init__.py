"""Metadata of media files that other programs write beside them."""
