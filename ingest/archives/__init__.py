"""Tar and zip archives as sources of files."""
