"""Decoders that make pictures from an embedding (unCLIP pipelines of diffusers); importing this package loads no torch.

They are installed like the models of encoders, and are none: `bindsearch.generation` runs them.
"""
