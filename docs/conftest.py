"""What the doctests of these pages need."""

import os

# must be set before scipy is imported
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# imports Sphinx, which the tests do not need
collect_ignore = ["conf.py"]
