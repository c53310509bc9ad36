"""Installed models: their sources, download, conversion and files."""
