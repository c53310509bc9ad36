"""Manifests: csv, jsonl and parquet files with metadata of other files."""
