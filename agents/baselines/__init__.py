"""Heuristics, optimisers and bounds that every learner is measured beside; one file per system."""
