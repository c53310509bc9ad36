"""Depth maps: units, names of data sets, file formats, and checks of the values."""
