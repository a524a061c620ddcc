"""Transform on a cluster of two worker processes, one of which is killed midway.

Run ``python examples/benchmarks/dask_cluster.py [n_samples]`` on Linux; the default is
200,000 rows of 768 float32 against 300 anchors, in blocks of 4,000 rows that workers
make when they need them.  What is sent is counted at the loopback interface, so let
nothing else use it.
"""

import os
import pickle
import re
import signal
import sys
import time
from pathlib import Path

import cloudpickle
import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster, futures_of

from skinvariant import RelativeProjector

N_FEATURES, BLOCK = 768, 4000


def random_rows(block_info=None):
    """A block of random rows, the same whenever it is made."""
    place = block_info[None]
    rng = np.random.default_rng(place["chunk-location"][0])
    return rng.standard_normal(place["chunk-shape"], dtype=np.float32)


def random_space(n_samples):
    """A space of which nothing is made yet."""
    sizes = [min(BLOCK, n_samples - start) for start in range(0, n_samples, BLOCK)]
    return da.map_blocks(
        random_rows,
        chunks=(tuple(sizes), (N_FEATURES,)),
        dtype=np.float32,
        meta=np.empty((0, 0), dtype=np.float32),
    )


def resident_mib(field):
    """Resident memory of this process by Linux: VmRSS now, VmHWM the peak."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s+(\d+) kB", status)[1]) / 1024


def forget_peak():
    """Set the peak to what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident_mib("VmRSS")


def sent_mib():
    """What went through the loopback interface since the machine started."""
    counters = Path("/proc/net/dev").read_text()
    return int(re.search(r"lo:\s+(\d+)", counters)[1]) / 2**20


def whole_run(client, projector, X):
    """Print what it takes to project all rows and reduce them to a mean."""
    output = projector.transform(X)
    graph = len(cloudpickle.dumps(output.__dask_graph__()))
    before = client.run(forget_peak)
    sent, start = sent_mib(), time.perf_counter()
    output.mean(axis=0).compute()
    seconds, sent = time.perf_counter() - start, sent_mib() - sent
    peaks = client.run(resident_mib, "VmHWM")
    print(f"{projector.metric}: {seconds:.1f} s")
    for worker, peak in peaks.items():
        print(f"  worker: {before[worker]:.0f} MiB before, {peak:.0f} MiB at the peak")
    print(
        f"  anchors {projector.anchors_.nbytes / 2**20:.2f} MiB, fitted projector "
        f"{len(pickle.dumps(projector)) / 2**20:.2f} MiB, graph of {X.numblocks[0]} "
        f"blocks {graph / 2**20:.2f} MiB; sent in all {sent:.1f} MiB"
    )


def killed_run(client, projector, X):
    """Print what becomes of a run of which one worker is killed."""
    start = time.perf_counter()
    output = projector.transform(X).persist()
    futures = futures_of(output)
    while sum(future.done() for future in futures) < len(futures) / 3:
        time.sleep(0.01)
    victim = min(client.run(os.getpid).values())
    os.kill(victim, signal.SIGKILL)
    done = sum(future.done() for future in futures)
    print(f"  worker {victim} killed when {done} of {len(futures)} blocks were done")
    computed = output.compute()
    print(f"  completed after {time.perf_counter() - start:.1f} s")
    expected = projector.transform(X.compute(scheduler="threads"))
    difference = abs(computed - expected).max()
    print(f"  largest difference to the in-memory result {difference}")


def main(n_samples):
    """Run both, for two metrics."""
    print(f"{n_samples} x {N_FEATURES} float32, 300 anchors, 2 workers of 1 thread")
    X = random_space(n_samples)
    with (
        LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="2GB",
            dashboard_address=":0",
            silence_logs="ERROR",  # of the worker that is killed
        ) as cluster,
        Client(cluster) as client,
    ):
        for metric in ("cosine", "euclidean"):
            projector = RelativeProjector(metric=metric, random_state=0)
            start = time.perf_counter()
            projector.fit(X[:BLOCK])
            print(f"{metric}: fit {time.perf_counter() - start:.1f} s")
            whole_run(client, projector, X)
            killed_run(client, projector, X)
            client.wait_for_workers(2)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) == 2 else 200_000)
