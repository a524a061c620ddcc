"""How well a change of encoder is forecast without labels, on real encoders.

``SKINVARIANT_DATA=folder python examples/benchmarks/forecast.py [--cases cora ...]
[--seeds n] [--cache folder]`` fits the voting model on each encoder, stitches it to
each other one by 30, 100 and 300 anchors, and forecasts from the probabilities of the
test rows and the old model's accuracy on them.  It prints

- for `forecast_swap` with probabilities and with labels alone, the bare agreement and
  the new model's mean confidence: the mean absolute error of the accuracy, the mean and
  the worst one, the rank correlation (over the encoders that one head is stitched to:
  their mean, that of heads whose true accuracies spread by .03 or more, and over all),
  and the share of accuracies in the interval;
- how often the bound is violated: with the true own accuracy, and with one from as many
  other rows;
- the error with 50 labels, of suspects and of rows at random (which the forecast uses
  too, or whose share of right labels is the estimate);
- the realised share of false positives of each class at the old model's threshold of
  1% and 5%: at the same threshold, and as `SwapForecast.threshold` maps it;
- the forecast from the anchors alone: its disagreement and its error.

``--ways`` also takes a ridge translation under a logistic regression ("ridge") and a
logistic regression on the product of invariances ("product").
"""

import argparse
from functools import partial

import calibration
import numpy as np
from joblib import Memory
from scipy.stats import spearmanr
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skinvariant import (
    InvariantAggregator,
    InvariantVotingClassifier,
    forecast_swap,
    stitch,
)
from skinvariant.forecast import least_accuracy
from skinvariant.translation import SpaceTranslator

CASES = ("cora", "trec", "cifar10", "cifar10 jpeg")
WAYS = ("voting", "voting, labels", "ridge", "product")
N_LABELS, RATES, WITHIN = 50, (0.01, 0.05), (0.005, 0.01)


def swapped(case, own, n_anchors, seed, ways):
    """Return predictions for the test rows, by way and new encoder."""
    spaces, y, _ = calibration.load(case)
    X, X_test = spaces[own]
    indices = np.random.default_rng(100 + seed).permutation(len(X))[:n_anchors]
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    product = make_pipeline(
        InvariantAggregator(anchors=indices), LogisticRegression(C=0.01, max_iter=500)
    )
    models = {
        "voting": InvariantVotingClassifier(anchors=indices),
        "ridge": head,
        "product": product,
    }
    models = {
        name: model.fit(X, y)
        for name, model in models.items()
        if any(way.startswith(name) for way in ways)
    }
    found = {}
    for way in ways:
        model = models[way.partition(",")[0]]
        for name, (other, other_test) in spaces.items():
            if name == own:
                continue
            anchors = {}
            if way == "ridge":
                translator = SpaceTranslator("ridge").fit(other[indices], X[indices])
                new = model.predict_proba(translator.transform(other_test))
            else:
                labels = {"y": y[indices]} if way == "voting, labels" else {}
                after = stitch(model, other[indices], **labels)
                new = after.predict_proba(other_test)
                if way.startswith("voting"):
                    anchors = {"old_a": model.left_out_, "new_a": after.left_out_}
            old = model.predict_proba(X_test)
            found[way, name] = {"old": old, "new": new, **anchors}
    return found


def accuracies(pair):
    """Return which rows are right, before and after."""
    return [pair[x].argmax(axis=1) == pair["y"] for x in ("old", "new")]


def labelled_errors(pair, own, accuracy, rng, n_draws=3):
    """Return the errors of the accuracy with labels of some rows."""
    old, new, y = pair["old"], pair["new"], pair["y"]
    forecast = forecast_swap(old, new, own_score=own)
    errors = {"suspects": [], "at random": [], "share at random": []}
    for _ in range(n_draws):
        order = rng.permutation(len(y))  # rows in other order: another draw
        shuffled = forecast_swap(old[order], new[order], own_score=own)
        suspects = order[shuffled.suspects(N_LABELS)] if shuffled.flips else order[:1]
        at_random = rng.permutation(len(y))[:N_LABELS]
        for name, rows in (("suspects", suspects), ("at random", at_random)):
            told = forecast_swap(old, new, own_score=own, y=y[rows], labelled=rows)
            errors[name].append(abs(told.estimate - accuracy))
        right = new[at_random].argmax(axis=1) == y[at_random]
        errors["share at random"].append(abs(right.mean() - accuracy))
    return {"none": abs(forecast.estimate - accuracy)} | {
        name: np.mean(values) for name, values in errors.items()
    }


def false_positives(pair, forecast):
    """Yield rate, way and deviation of the new model's share of false positives."""
    for class_ in forecast.classes:
        others = pair["y"] != class_
        if np.sum(~others) < 10:
            continue
        old, new = (pair[x][:, class_] for x in ("old", "new"))
        for rate in RATES:
            threshold = float(np.quantile(old[others], 1 - rate))
            if not 0 < np.mean(old >= threshold) < 1:
                continue
            mapped = {
                keep: forecast.threshold(threshold, class_, keep=keep)[0]
                for keep in ("share", "false_positives")
            }
            for way, value in ({"same": threshold} | mapped).items():
                yield rate, way, np.mean(new[others] >= value) - rate


def measure(pair, rng):
    """Return everything that is measured of one pair of encoders."""
    right = accuracies(pair)
    own, accuracy = (float(x.mean()) for x in right)
    old, new, n_rows = pair["old"], pair["new"], len(pair["y"])
    forecasts = {
        "probabilities": forecast_swap(old, new, own_score=own),
        "labels": forecast_swap(old.argmax(axis=1), new.argmax(axis=1), own_score=own),
    }
    forecast = forecasts["probabilities"]
    estimates = {name: x.estimate for name, x in forecasts.items()} | {
        "agreement": 1 - forecast.disagreement,
        "confidence": new.max(axis=1).mean(),
    }
    covered = {
        name: x.estimate_interval[0] <= accuracy <= x.estimate_interval[1]
        for name, x in forecasts.items()
    }
    others = rng.binomial(n_rows, own, size=20)
    differ = round(forecast.disagreement * n_rows)
    bounds = [least_accuracy(differ, n_rows, x / n_rows, n_rows)[1] for x in others]
    found = {
        "accuracy": accuracy,
        "estimates": estimates,
        "covered": covered,
        "violated": accuracy < forecast.bound - 1e-12,
        "violated, own measured": np.mean([accuracy < bound for bound in bounds]),
        "labels": labelled_errors(pair, own, accuracy, rng),
        "false positives": list(false_positives(pair, forecast)),
    }
    if "old_a" in pair:
        by_anchors = forecast_swap(pair["old_a"], pair["new_a"], own_score=own)
        found["anchors"] = (
            by_anchors.disagreement - forecast.disagreement,
            by_anchors.estimate - accuracy,
        )
    return found


def rank_correlations(rows, name):
    """Return those of heads, of heads whose accuracies spread, and over all pairs."""
    heads = {}
    for row in rows:
        heads.setdefault(row["head"], []).append(
            (row["estimates"][name], row["accuracy"])
        )
    values, spread = [], []
    for pairs in heads.values():
        estimates, accuracy = np.transpose(pairs)
        if len(set(estimates)) > 1 and len(set(accuracy)) > 1:
            values.append(spearmanr(estimates, accuracy)[0])
            spread.append(np.ptp(accuracy) >= 0.03)
    everything = [(row["estimates"][name], row["accuracy"]) for row in rows]
    values, spread = np.array(values), np.array(spread)
    wide = values[spread].mean() if spread.any() else np.nan
    return (
        values.mean() if len(values) else np.nan,
        wide,
        spearmanr(*np.transpose(everything))[0],
    )


def show(title, rows):
    """Print all figures of some pairs."""
    print(f"\n{title}: {len(rows)} pairs and draws")
    for name in rows[0]["estimates"]:
        errors = [abs(row["estimates"][name] - row["accuracy"]) for row in rows]
        ranks = rank_correlations(rows, name)
        line = f"  {name:14s} error {np.mean(errors):.3f} worst {np.max(errors):.3f}"
        line += "  rank {:.2f} {:.2f} {:.2f}".format(*ranks)
        if name in rows[0]["covered"]:
            line += f"  covered {np.mean([row['covered'][name] for row in rows]):.3f}"
        print(line)
    violated = np.sum([row["violated"] for row in rows])
    measured = np.mean([row["violated, own measured"] for row in rows])
    print(f"  bound violated {violated}, with a measured own accuracy {measured:.4f}")
    labels = rows[0]["labels"]
    means = (f"{x} {np.mean([row['labels'][x] for row in rows]):.4f}" for x in labels)
    print(f"  error with {N_LABELS} labels: {', '.join(means)}")
    deviations = {}
    for row in rows:
        for rate, way, deviation in row["false positives"]:
            deviations.setdefault((rate, way), []).append(abs(deviation))
    for (rate, way), values in sorted(deviations.items()):
        within = np.mean(np.array(values) <= WITHIN[RATES.index(rate)])
        print(
            f"  false positives {rate:.0%}, threshold {way:15s}: off by "
            f"{np.mean(values):.4f}, within the limit {within:.2f}"
        )
    if anchors := [row["anchors"] for row in rows if "anchors" in row]:
        gaps, errors = np.transpose(anchors)
        print(
            f"  from the anchors alone: disagreement off by {gaps.mean():+.3f} (size "
            f"{np.abs(gaps).mean():.3f}), accuracy by {np.abs(errors).mean():.3f}"
        )


def main(arguments):
    """Print the figures of every case, and of all together."""
    compute = Memory(arguments.cache, verbose=0).cache(swapped)
    rng, by_way = np.random.default_rng(0), {}
    for case in arguments.cases:
        spaces, _, y_test = calibration.load(case)
        for own in spaces:
            for n_anchors in (30, 100, 300):
                for seed in range(arguments.seeds):
                    found = compute(case, own, n_anchors, seed, tuple(arguments.ways))
                    for (way, name), pair in found.items():
                        row = measure(pair | {"y": y_test}, rng)
                        row |= {"case": case, "n_anchors": n_anchors, "new": name}
                        row["head"] = (case, own, n_anchors, seed)
                        by_way.setdefault(way, []).append(row)
    for way, rows in by_way.items():
        chosen = partial(_chosen, rows)
        for case in arguments.cases:
            for n_anchors in (30, 100, 300):
                show(f"{way}, {case}, {n_anchors} anchors", chosen(case, n_anchors))
        for case in arguments.cases:
            show(f"{way}, {case}", chosen(case))
        show(f"{way}, all", rows)


def _chosen(rows, case, n_anchors=None):
    counts = (n_anchors, None)
    return [
        row
        for row in rows
        if row["case"] == case and (row["n_anchors"] in counts or n_anchors is None)
    ]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--cases", nargs="+", default=CASES, choices=calibration.ARCHIVES
    )
    parser.add_argument("--ways", nargs="+", default=WAYS[:1], choices=WAYS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cache", default=None)
    main(parser.parse_args())
