"""What the recipes share: models from raw inputs to labels, before and after a swap.

Data are a Bunch of `train`, `y_train`, `test` and `y_test`: raw inputs, as the encoders
take them, and labels.  The voting model has its defaults; the plain head is the same
logistic regression on standardised embeddings.
"""

from time import perf_counter

from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skinvariant import InvariantVotingClassifier, select_anchors, stitch
from skinvariant.translation import SpaceTranslator


def voting_model(encoder, n_anchors=300):
    """Make the recommended model, from raw inputs to labels."""
    vote = InvariantVotingClassifier(n_anchors=n_anchors, random_state=0)
    return Pipeline([("encoder", encoder), ("vote", vote)])


def plain_model(encoder):
    """Make a model with one linear head on the embeddings."""
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    return Pipeline([("encoder", encoder), ("head", head)])


def timed(function, *args, **kwargs):
    """Return what a function returns, and the seconds that it took."""
    start = perf_counter()
    result = function(*args, **kwargs)
    return result, perf_counter() - start


def swapped_untouched(model, encoder, data):
    """Score a plain head on another encoder's embeddings, or return the error."""
    try:
        return make_pipeline(encoder, model["head"]).score(data.test, data.y_test)
    except ValueError as error:
        return str(error)


def translated(model, encoder, anchors):
    """Put a plain head behind a ridge translation, fitted on the anchors."""
    translator = SpaceTranslator("ridge")
    translator.fit(encoder.transform(anchors), model["encoder"].transform(anchors))
    return make_pipeline(encoder, translator, model["head"])


def compare(old, new, data, n_anchors=300):
    """Yield what was done, the accuracy on test data, and the seconds it took."""
    train, test = (data.train, data.y_train), (data.test, data.y_test)
    yield "commonest class", DummyClassifier().fit(*train).score(*test), None

    model, seconds = timed(voting_model(old, n_anchors).fit, *train)
    yield "voting model", model.score(*test), seconds
    anchors, labels = (select_anchors(model, each) for each in train)
    new.transform(anchors)  # into the cache, if there is one
    stitched, seconds = timed(stitch, model, anchors, encoder=new)
    yield "  stitched", stitched.score(*test), seconds
    stitched, seconds = timed(stitch, model, anchors, encoder=new, y=labels)
    yield "  stitched, anchors' labels", stitched.score(*test), seconds

    model, seconds = timed(plain_model(old).fit, *train)
    yield "plain head", model.score(*test), seconds
    yield "  swapped untouched", swapped_untouched(model, new, data), None
    stitched, seconds = timed(translated, model, new, anchors)
    yield "  ridge translation", stitched.score(*test), seconds

    for title, make in {
        "voting model": voting_model,
        "plain head": plain_model,
    }.items():
        model, seconds = timed(make(new).fit, *train)
        yield f"{title}, retrained", model.score(*test), seconds


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
