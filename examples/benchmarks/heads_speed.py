"""Training of a head against a torch loop written by hand, over the same tensors.

``python examples/benchmarks/heads_speed.py`` trains both in turn, and prints the median
seconds of an epoch, and the ratio.  Both shuffle, train with the same network, fused
AdamW and batch size, and compute loss and accuracy of held-back rows after each epoch.
"""

import statistics
import time

import numpy as np
import torch
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split
from torch.nn.functional import cross_entropy

from skinvariant.heads import InvariantClassifier
from skinvariant.nn import InvariantNetwork, MLPSum, make_head

N_CLASSES = 10


def by_hand(head, spaces, labels, n_epochs):
    """Train as anyone would with torch alone; return the seconds of each epoch."""
    parts = train_test_split(np.arange(len(labels)), test_size=0.1, stratify=labels)
    train, valid = (torch.from_numpy(part) for part in parts)
    options = {"space_dropout": head.space_dropout, "noise": head.noise}
    aggregation = MLPSum(spaces.shape[1], spaces.shape[2], **options)
    network = InvariantNetwork(aggregation, make_head(spaces.shape[2], N_CLASSES))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=1e-3, weight_decay=1.0, fused=True
    )
    S, y, S_valid, y_valid = spaces[train], labels[train], spaces[valid], labels[valid]
    seconds, history = [], []
    for _ in range(n_epochs):
        start = time.perf_counter()
        network.train()
        losses = []
        for rows in torch.randperm(len(y)).split(head.batch_size):
            optimizer.zero_grad()
            loss = cross_entropy(network(S[rows]), y[rows])
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        network.eval()
        with torch.no_grad():
            batches = S_valid.split(head.batch_size)
            outputs = torch.cat([network(batch) for batch in batches])
            loss = cross_entropy(outputs, y_valid).item()
            score = accuracy_score(y_valid.numpy(), outputs.argmax(dim=1).numpy())
        history.append((statistics.fmean(losses), loss, score))
        seconds.append(time.perf_counter() - start)
    return seconds


def compare(n_rows, n_anchors, metrics, batch_size, n_rounds=7, n_epochs=3):
    """Train in turn, and print both medians and their ratio."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows, 64)).astype(np.float32)
    y = rng.integers(N_CLASSES, size=n_rows)
    head = InvariantClassifier(
        n_anchors,
        metrics=metrics,
        batch_size=batch_size,
        max_epochs=n_epochs,
        early_stopping=True,
        random_state=0,
    ).fit(X, y)
    spaces = head.aggregator_.transform(X).reshape(n_rows, len(metrics), n_anchors)
    tensors = torch.from_numpy(spaces), torch.from_numpy(y)
    ours, theirs = [], []
    for _ in range(n_rounds):
        theirs += by_hand(head, *tensors, n_epochs)
        ours += [epoch["seconds"] for epoch in head.fit(X, y).history_]
    ours, theirs = statistics.median(ours), statistics.median(theirs)
    print(
        f"{n_rows} rows, {len(metrics)} x {n_anchors} anchors, batch {batch_size}: "
        f"head {ours:.3f} s, by hand {theirs:.3f} s an epoch, "
        f"ratio {ours / theirs:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    four = InvariantClassifier().metrics
    for n_threads in dict.fromkeys((torch.get_num_threads(), 1)):
        torch.set_num_threads(n_threads)
        print(f"torch threads: {n_threads}")
        compare(20_000, 300, four, batch_size=256)
        compare(5_000, 50, four[:1], batch_size=64)
