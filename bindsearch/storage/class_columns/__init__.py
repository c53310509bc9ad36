"""Columns that `classify` writes: a class of each item, with its probability, and how they were made.

The value of an item is stored under the first vector of the modality that was classified. Items of the same content
share vectors, so they share the class; an item whose file changes gets new vectors, so it has no class until the column
is written again. Nothing has to be changed when files are moved, touched or forgotten.
"""
