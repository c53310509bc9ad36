"""Segments of one file as an indexing run decodes them, and what decided how."""
