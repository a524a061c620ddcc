"""What the recipes share: models from raw inputs to labels, before and after a swap.

Data are a Bunch of `train`, `y_train`, `test` and `y_test`: raw inputs, as the encoders
take them, and labels.  The options of the product's head are those that
examples/paper/classification.py has for it; the vote is that of the page "Swap the
encoder, keep the head", with a scaler before the head on the space as it is.
"""

from time import perf_counter

from sklearn.dummy import DummyClassifier
from sklearn.ensemble import VotingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantAggregator, RelativeProjector, stitch

METRICS = ("cosine", "euclidean", "manhattan", "chebyshev")


def head(C):
    """Make a head; its tolerance is enough for accuracies."""
    return LogisticRegression(C=C, max_iter=1000, tol=1e-3)


def absolute_head():
    """Make a head for a space as it is, whatever its scale."""
    return make_pipeline(StandardScaler(), head(0.1))


def absolute_model(encoder):
    """Make a model with a head on the space as it is."""
    return Pipeline([("encoder", encoder), ("head", absolute_head())])


def product_model(encoder, n_anchors=300):
    """Make a model with a head on the product of four metrics."""
    product = InvariantAggregator(n_anchors, post="standardize", random_state=0)
    return Pipeline([("encoder", encoder), ("product", product), ("head", head(0.01))])


def vote_model(encoder, n_anchors=300):
    """Make a model with a head for each metric, and one on the space as it is."""
    same = {"n_anchors": n_anchors, "post": "standardize", "random_state": 0}
    voters = [
        (metric, make_pipeline(RelativeProjector(metric=metric, **same), head(0.1)))
        for metric in METRICS
    ]
    voters.append(("absolute", absolute_head()))
    vote = VotingClassifier(voters, voting="soft")
    return Pipeline([("encoder", encoder), ("vote", vote)])


def anchor_indices(model):
    """Return which of the training inputs are the anchors of a fitted model."""
    step = model[1]
    return getattr(step, "estimators_", [[step]])[0][0].anchor_indices_


def take(inputs, indices):
    """Return some of the inputs: rows of an array, or members of a list."""
    return inputs[indices] if hasattr(inputs, "shape") else [inputs[i] for i in indices]


def timed(function, *args, **kwargs):
    """Return what a function returns, and the seconds that it took."""
    start = perf_counter()
    result = function(*args, **kwargs)
    return result, perf_counter() - start


def swapped_as_it_is(model, encoder, data):
    """Score a head on the space as it is under another encoder, or say why not."""
    try:
        return make_pipeline(encoder, model["head"]).score(data.test, data.y_test)
    except ValueError as error:
        return str(error)


def compare(old, new, data, n_anchors=300):
    """Yield what was done, the accuracy on test data, and the seconds it took."""
    train, test = (data.train, data.y_train), (data.test, data.y_test)
    yield "commonest class", DummyClassifier().fit(*train).score(*test), None

    model, seconds = timed(absolute_model(old).fit, *train)
    yield "space as it is", model.score(*test), seconds
    yield "  under the new encoder", swapped_as_it_is(model, new, data), None

    model, seconds = timed(product_model(old, n_anchors).fit, *train)
    yield "product", model.score(*test), seconds
    anchors = take(data.train, anchor_indices(model))
    new.transform(anchors)  # into the cache, if there is one
    stitched, seconds = timed(stitch, model, anchors, encoder=new)
    yield "  stitched", stitched.score(*test), seconds

    model, seconds = timed(vote_model(old, n_anchors).fit, *train)
    yield "vote", model.score(*test), seconds
    labels = take(data.y_train, anchor_indices(model))
    for what, y in [("  stitched, reweight", None), ("  and anchors' labels", labels)]:
        told = {"reweight": True, "y": y}
        stitched, seconds = timed(stitch, model, anchors, encoder=new, **told)
        yield what, stitched.score(*test), seconds

    model, seconds = timed(absolute_model(new).fit, *train)
    yield "trained anew, all labels", model.score(*test), seconds


def show_encoding(encoders, data):
    """Encode all data by each encoder, and print the widths and the seconds."""
    print(f"{len(data.train)} to train, {len(data.test)} to test")
    for name, encoder in encoders.items():
        X, seconds = timed(encoder.transform, data.train)
        _, more = timed(encoder.transform, data.test)
        print(f"{name:<8}{X.shape[1]:5} columns, encoded in {seconds + more:.1f} s")


def show_comparison(old, new, data):
    """Print the rows of a comparison."""
    print(f"{'':<28}accuracy  seconds")
    with threadpool_limits(1):  # more threads would wait for each other
        rows = list(compare(old, new, data))
    for what, accuracy, seconds in rows:
        number = accuracy if isinstance(accuracy, str) else f"{accuracy:8.3f}"
        print(f"{what:<28}{number}" + ("" if seconds is None else f"{seconds:9.1f}"))
