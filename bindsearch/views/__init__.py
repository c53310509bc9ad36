"""Pictures and pages of what was found: thumbnails, figures, the map of a collection, pages in one file."""
