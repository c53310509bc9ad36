"""Data sets that encoders are measured with: readers of the layouts in which they are published."""
