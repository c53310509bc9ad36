"""The parts of a medium that answer a query: boxes of pictures and spans of recordings."""
