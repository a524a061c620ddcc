"""What the doctests of these pages need."""

import os

# must be set before scipy is imported
os.environ.setdefault("SCIPY_ARRAY_API", "1")

# the build of the pages: they import Sphinx and examples/paper, and have no doctests
collect_ignore = ["conf.py", "drawings.py", "mathml.py"]
