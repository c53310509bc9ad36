"""Shards on a Ray cluster: the connection, actors that hold shards, encoders in actors."""
