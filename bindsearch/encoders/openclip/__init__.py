"""CLIP models of the open_clip library as encoders of text, images and video; importing this package loads no torch."""
