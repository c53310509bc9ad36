"""Searches: queries, filters, plans and their execution."""
