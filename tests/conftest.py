"""Settings that must be made before scipy is imported, and shared fixtures."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")
# no windows
os.environ.setdefault("MPLBACKEND", "Agg")
