"""Sharded stores: a folder of ordinary stores that is indexed and searched as one."""
