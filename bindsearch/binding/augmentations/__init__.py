"""Random changes of decoded media for training; all randomness comes from the generator that is given.

A step of training is repeated bit for bit from the same media, options and state of the generator.
"""
