"""Slow, independent versions of the environments that the tests compare against."""
