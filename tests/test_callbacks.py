"""Callbacks of scikit-learn are called in every fit, and every epoch of a head."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from skinvariant import stitch
from skinvariant.datasets import make_related_spaces

callback = pytest.importorskip(
    "sklearn.callback", reason="scikit-learn has callbacks from 1.9 on"
)
SPACES = make_related_spaces(200, n_features_b=12, random_state=0)
X, y = SPACES.X_a, SPACES.y


class Recorder:
    """A callback that records its calls, and can stop after an epoch."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.calls = []

    def setup(self, estimator, context):
        """Record the call."""
        self.calls.append("setup")

    def on_fit_task_begin(self, estimator, context):
        """Record the task."""
        self.calls.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context):
        """Record the task, and return whether to stop."""
        self.calls.append(("end", context.task_name, context.task_id))
        return context.task_name == "epoch" and context.task_id == self.stop_after

    def teardown(self, estimator, context):
        """Record the call."""
        self.calls.append("teardown")


def make_head(name="InvariantClassifier", **params):
    """Make a small head; it needs torch."""
    heads = pytest.importorskip(
        "skinvariant.heads", reason="heads need torch", exc_type=ImportError
    )
    return getattr(heads, name)(30, random_state=0, **({"max_epochs": 4} | params))


@pytest.mark.parametrize("name", ["InvariantClassifier", "InvariantRegressor"])
def test_every_epoch_is_a_task(name):
    """It begins and ends within the fit, and the predictions stay the same."""
    recorder, head = Recorder(), make_head(name)
    fitted = clone(head).set_callbacks(recorder).fit(X, y)
    epochs = [(when, "epoch", n) for n in range(4) for when in ("begin", "end")]
    fit = [("begin", "fit", 0), *epochs, ("end", "fit", 0)]
    assert recorder.calls == ["setup", *fit, "teardown"]
    np.testing.assert_array_equal(fitted.predict(X), head.fit(X, y).predict(X))


def test_a_callback_stops_the_training():
    """The head is that of a fit with fewer epochs."""
    head = make_head().set_callbacks(Recorder(stop_after=1)).fit(X, y)
    assert len(head.history_) == 2
    expected = make_head(max_epochs=2).fit(X, y)
    np.testing.assert_array_equal(head.predict_proba(X), expected.predict_proba(X))


def test_early_stopping_ends_the_last_task():
    """There are as many tasks as epochs, and the last one ends as well."""
    recorder = Recorder()
    how = {"early_stopping": True, "n_iter_no_change": 1, "max_epochs": 100}
    head = make_head(**how).set_callbacks(recorder).fit(X, y)
    ended = sum(call[:2] == ("end", "epoch") for call in recorder.calls)
    assert ended == len(head.history_) < 100


def test_a_callback_of_skorch_ends_the_last_task():
    """It stops the training after the task has ended."""
    skorch = pytest.importorskip("skorch")
    stop = skorch.callbacks.EarlyStopping("train_loss", patience=1, threshold=0.9)
    recorder = Recorder()
    head = make_head(callbacks=[stop]).set_callbacks(recorder).fit(X, y)
    ended = sum(call[:2] == ("end", "epoch") for call in recorder.calls)
    assert ended == len(head.history_) < 4


def test_an_error_in_fit_tears_down():
    """Every callback is closed."""
    recorder = Recorder()
    head = make_head(lr=1e30).set_callbacks(recorder)
    with pytest.raises(ValueError, match="the training diverged"):
        head.fit(X, y)
    assert recorder.calls[-1] == "teardown"


def test_scores_of_every_epoch():
    """The head can predict after each epoch, which does not change the training."""
    monitor = callback.ScoringMonitor(scoring="accuracy")
    head = make_head().set_callbacks(monitor).fit(X, y)
    scores = {
        row["task_id"]: row["accuracy"]
        for row in monitor.get_logs().data
        if row["task_name"] == "epoch"
    }
    shorter = [make_head(max_epochs=n).fit(X, y).score(X, y) for n in (1, 2, 3, 4)]
    assert list(scores.values()) == shorter
    assert pickle.loads(pickle.dumps(head)).score(X, y) == shorter[-1]


def test_scores_of_a_weighted_fit():
    """They are weighted, too: rows of weight 0, here with wrong labels, are ignored."""
    monitor = callback.ScoringMonitor(scoring="accuracy")
    weights = (np.arange(len(y)) % 2).astype(float)
    labels = np.where(weights > 0, y, (y + 1) % 3)
    head = make_head(max_epochs=2).set_callbacks(monitor)
    head.fit(X, labels, sample_weight=weights)
    last = monitor.get_logs().data[-1]["accuracy"]
    assert last == pytest.approx(head.score(X[weights > 0], y[weights > 0]))
    assert last > head.score(X, labels) + 0.2


def test_progress_of_a_pipeline(capsys):
    """The head is not left out with a warning; it has its bar."""
    pytest.importorskip("rich", reason="ProgressBar needs rich")
    model = make_pipeline(make_head())
    model.set_callbacks(callback.ProgressBar()).fit(X, y)
    printed = capsys.readouterr().out
    assert {type(each).__name__ for _, each in model.steps} <= set(printed.split())
    stitched = stitch(model, SPACES.X_b[model[0].anchor_indices_])
    assert stitched.score(SPACES.X_b, y) > 0.8


def test_a_fit_without_callbacks_leaves_nothing_behind():
    """The estimator keeps no attribute of the callbacks."""
    fitted = make_head().fit(X, y)
    attributes = set(vars(fitted)) - set(fitted.get_params())
    assert not [name for name in attributes if "callback" in name]
