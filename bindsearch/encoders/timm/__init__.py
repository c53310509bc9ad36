"""Encoders of pictures and video: the image models of the timm library, without their classifiers."""
