"""Search by words: names, captions, metadata and passages that contain the words of a query."""
