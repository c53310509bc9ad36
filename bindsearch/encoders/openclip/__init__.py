"""CLIP models of the open_clip library as encoders of text, images and video. Importing this loads no torch."""
