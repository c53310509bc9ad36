"""Stores of tests that are not about worker processes, whose start costs a second of CPU time a run."""

from functools import partial

import bindsearch as bs

connect = partial(bs.connect, decode="thread")
