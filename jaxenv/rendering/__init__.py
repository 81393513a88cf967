"""Drawings of environments into matplotlib axes; matplotlib is imported when something is drawn."""
