"""Models of the library sentence-transformers as encoders; importing this package loads no torch."""
