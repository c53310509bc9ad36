"""Classification of files and of items by the names of classes."""
