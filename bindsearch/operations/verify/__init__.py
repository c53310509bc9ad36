"""Verification of a store, and its repair: what can be checked and repaired without an encoder."""
