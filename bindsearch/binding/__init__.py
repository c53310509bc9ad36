"""Training of towers that are bound to the space of a hub by pairs of files (ImageBind, arXiv 2305.05665)."""
