"""Subtitles: files beside a recording and text tracks in it, as texts with times."""
