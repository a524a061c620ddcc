"""Peak memory of `transform_batches`, and a run that is killed and goes on.

Run ``python examples/benchmarks/outofcore.py [n_samples]``, on Linux; the default is
1,000,000 rows of 768 float32 (2.9 GiB in the temporary directory) against 300 anchors.
Each run has its own process.
"""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from skinvariant import RelativeProjector
from skinvariant.outofcore import transform_batches

N_FEATURES, N_ANCHORS = 768, 300


def resident_mb(field):
    """Resident memory of this process by Linux: VmRSS now, VmHWM the peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) * 1024 / 1e6


def forget_peak():
    """Set the peak to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def make_rows(path, n_samples):
    """Write random rows a block at a time, no two blocks alike."""
    rng = np.random.default_rng(0)
    block = rng.standard_normal((10_000, N_FEATURES), dtype=np.float32)
    with path.open("wb") as file:
        for start in range(0, n_samples, len(block)):
            file.write(
                (block + rng.standard_normal(dtype=np.float32))[: n_samples - start]
            )


def open_maps(folder, name, n_samples):
    """Return input and output; the output as it is where there is one."""
    path, dtype = folder / name, name.split("-")[0]
    shape = (n_samples, N_ANCHORS)
    X = np.memmap(folder / "X", np.float32, "r", shape=(n_samples, N_FEATURES))
    return X, np.memmap(path, dtype, "r+" if path.exists() else "w+", shape=shape)


def measure(folder, name, n_samples):
    """Transform, and print memory and time; with a checkpoint beside the output."""
    X, out = open_maps(folder, name, n_samples)
    projector = RelativeProjector(N_ANCHORS, random_state=0, n_jobs=2).fit(X[:2000])
    projector.transform(X[:2000])
    checkpoint = folder / f"{name}.json"
    n_done = rows_done(checkpoint)
    forget_peak()
    before, start = resident_mb("VmRSS"), time.perf_counter()
    transform_batches(projector, X, out, checkpoint=checkpoint)
    seconds, peak = time.perf_counter() - start, resident_mb("VmHWM")
    print(
        f"{name:14s} from row {n_done:7d}: start {before:4.0f} MB, "
        f"peak {peak:4.0f} MB, growth {peak - before:4.0f} MB, {seconds:6.1f} s, "
        f"{(n_samples - n_done) / seconds:7.0f} rows/s",
        flush=True,
    )


def rows_done(checkpoint):
    """How many rows a checkpoint counts."""
    return json.loads(checkpoint.read_text())["n_done"] if checkpoint.exists() else 0


def start(folder, name, n_samples):
    """Measure in a new process."""
    command = [sys.executable, __file__, str(folder), name, str(n_samples)]
    return subprocess.Popen(command)


def kill_half_way(folder, name, n_samples):
    """Start a run, and kill it when half of the rows are done."""
    checkpoint = folder / f"{name}.json"
    with start(folder, name, n_samples) as process:
        while rows_done(checkpoint) < n_samples / 2 and process.poll() is None:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    print(
        f"{name:14s} killed by signal {-process.returncode} "
        f"at {rows_done(checkpoint)} of {n_samples} rows"
    )


def digest(path):
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main(n_samples):
    """Measure both dtypes, then kill and go on."""
    print(f"{n_samples} x {N_FEATURES} float32, {N_ANCHORS} anchors, cosine, n_jobs=2")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_rows(folder / "X", n_samples)
        for dtype in ("float32", "float16"):
            start(folder, dtype, n_samples).wait()
        kill_half_way(folder, "float32-killed", n_samples)
        start(folder, "float32-killed", n_samples).wait()
        digests = [digest(folder / run) for run in ("float32", "float32-killed")]
        print(*digests, sep="\n")
        print("the outputs agree" if len(set(digests)) == 1 else "THE OUTPUTS DIFFER")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        measure(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) == 2 else 1_000_000)
