"""Texts: their encoding, and passages that fit the encoder."""
