"""Peak memory of `transform` beyond its output, however many rows there are.

Run ``python examples/benchmarks/memory.py [n_samples]``; the default is 200,000 rows of
768 float32 against 300 anchors, on Linux.  Each case has its own process.
"""

import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from skinvariant import InvariantAggregator, RelativeProjector

CASES = {
    **{
        f"{metric}, n_jobs={n_jobs}": RelativeProjector(
            metric=metric, random_state=0, n_jobs=n_jobs
        )
        for metric in ("cosine", "euclidean", "manhattan", "chebyshev")
        for n_jobs in (1, 2)
    },
    "product, n_jobs=2": InvariantAggregator(random_state=0, n_jobs=2),
}


def resident_mib(field):
    """Resident memory of this process by Linux: VmRSS now, VmHWM the peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024


def forget_peak():
    """Set the peak to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(name, n_samples):
    """Print the memory that a case needs beyond input and output."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_samples, 768), dtype=np.float32)
    projector = CASES[name].fit(X[:2000])
    projector.transform(X[:2000])
    forget_peak()
    before, start = resident_mib("VmRSS"), time.perf_counter()
    output = projector.transform(X)
    seconds = time.perf_counter() - start
    extra = resident_mib("VmHWM") - before - output.nbytes / 2**20
    print(f"{name:24s} {extra:8.1f} MiB beyond the output, {seconds:6.1f} s")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        measure(sys.argv[1], int(sys.argv[2]))
    else:
        n_samples = sys.argv[1] if len(sys.argv) == 2 else "200000"
        print(f"{n_samples} x 768 float32, 300 anchors")
        for case in CASES:
            subprocess.run([sys.executable, __file__, case, n_samples], check=True)
