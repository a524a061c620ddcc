"""Peak memory and time of each measure of how alike two spaces are.

Run ``python examples/benchmarks/agreement.py [n_samples]``; the default is two spaces
of 50,000 rows of 768 float32, on Linux.  Each case has its own process.
"""

import re
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np

from skinvariant import comparison

CASES = {
    "cka": (comparison.cka, {}),
    "cka, debiased": (comparison.cka, {"debiased": True}),
    "cka, rbf": (comparison.cka, {"kernel": "rbf"}),
    "procrustes_distance": (comparison.procrustes_distance, {}),
    "mean_canonical_correlation": (comparison.mean_canonical_correlation, {}),
    "mutual_knn": (comparison.mutual_knn, {}),
    "mean_reciprocal_rank": (comparison.mean_reciprocal_rank, {}),
    "top_k_jaccard": (comparison.top_k_jaccard, {}),
    "rowwise_pearson": (comparison.rowwise_pearson, {}),
    "rowwise_spearman": (comparison.rowwise_spearman, {}),
}
# calibrated, the kernel alone takes each pair of rows anew for every permutation
CALIBRATED = sorted(CASES.keys() - {"cka, rbf"})


def resident_mib(field):
    """Resident memory of this process by Linux: VmRSS now, VmHWM the peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024


def forget_peak():
    """Set the peak to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def measure(name, n_samples, n_permutations):
    """Print the memory that a case needs beyond its input, and its time."""
    rng = np.random.default_rng(0)
    X_a = rng.standard_normal((n_samples, 768), dtype=np.float32)
    X_b = X_a + rng.standard_normal((n_samples, 768), dtype=np.float32)
    function, params = CASES[name]
    if n_permutations:
        function = partial(
            comparison.calibrated,
            function,
            n_permutations=n_permutations,
            random_state=0,
        )
    function(X_a[:2000], X_b[:2000], **params)
    forget_peak()
    before, start = resident_mib("VmRSS"), time.perf_counter()
    value = function(X_a, X_b, **params)
    seconds = time.perf_counter() - start
    extra = resident_mib("VmHWM") - before
    print(
        f"{name:27s} {n_permutations:3d} permutations: {value:6.3f}, "
        f"{extra:7.1f} MiB beyond the input, {seconds:7.1f} s",
        flush=True,
    )


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(sys.argv[1], *map(int, sys.argv[2:]))
    else:
        n_samples = sys.argv[1] if len(sys.argv) == 2 else "50000"
        print(f"two spaces of {n_samples} x 768 float32", flush=True)
        for n_permutations, cases in (("0", CASES), ("19", CALIBRATED)):
            for case in cases:
                arguments = [sys.executable, __file__, case, n_samples, n_permutations]
                subprocess.run(arguments, check=True)
