"""Measurements on data sets, a module for each kind."""
