"""Preprocessing that encoders share: crops, resampling, pooling, CLIP tokens."""
