"""Sound and video: containers, tracks, spans."""
