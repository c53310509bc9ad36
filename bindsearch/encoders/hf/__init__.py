"""Models of the transformers library, from a folder of files: one encoder, and an adapter for each type of model."""
