"""Reports of evaluations: as data, as lines of a terminal, and as one HTML page."""
