"""Settings that must be made before scipy is imported, and shared fixtures."""

import os

os.environ.setdefault("SCIPY_ARRAY_API", "1")
# no windows
os.environ.setdefault("MPLBACKEND", "Agg")
# nothing may wait for a network
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
