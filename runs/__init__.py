"""Programs that train, measure and reproduce: ``python -m runs.NAME``."""

import os

# XLA calls a program of its compilation cache an error where the processor that compiled it, the
# same, has features that are none, and prints a page for each; what really fails raises.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
