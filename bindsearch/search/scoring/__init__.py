"""Scores of candidates: z, the probability of a match, and its coefficients."""
