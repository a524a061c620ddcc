"""Time of ``import skinvariant`` beside that of scikit-learn's parts it builds on.

Run ``python examples/benchmarks/import_time.py``: fresh interpreters, in turns; the
median of the ratios.
"""

import statistics
import subprocess
import sys
import time

OURS = "import skinvariant"
THEIRS = "import sklearn.cluster, sklearn.pipeline, sklearn.preprocessing"


def seconds(statement):
    """Seconds until a fresh interpreter has run a statement and ended."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


if __name__ == "__main__":
    pairs = [(seconds(THEIRS), seconds(OURS)) for _ in range(9)]
    theirs, ours = (statistics.median(times) for times in zip(*pairs, strict=True))
    ratio = statistics.median(our / their for their, our in pairs)
    print(f"scikit-learn {theirs:.2f} s, skinvariant {ours:.2f} s, ratio {ratio:.2f}")
