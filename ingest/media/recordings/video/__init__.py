"""Video streams: choice, frames, times, colours, orientation."""
