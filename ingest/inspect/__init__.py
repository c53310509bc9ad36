"""Inspection of files: modality, fingerprint and metadata."""
