"""Measures of optimizers: pure functions, arrays in, numbers out, one module per topic.

Regrets have the shape (optimizers, datasets, seeds, times), or (optimizers, datasets, seeds) at one time. Lower is
better. Every dataset counts the same, however many seeds it has or whatever happened on it; the seeds of two optimizers
are paired.
"""
