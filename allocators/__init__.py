"""Optimisation on plain arrays: how a shared resource is divided.

Knows nothing of environments or learners.
"""
