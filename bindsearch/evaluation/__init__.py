"""Measurement of encoders: data sets, figures and reports."""
