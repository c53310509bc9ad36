"""Searches of a store: queries, filters, plans and their execution."""
