"""Encoders that add towers to a hub: another encoder whose space the towers were trained towards."""
