"""Open-vocabulary detectors: boxes in a picture that fit queries, which are vectors of the detector's own space."""
