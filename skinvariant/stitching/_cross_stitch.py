"""cross_stitch: the input checked, measured, and reported."""

from collections.abc import Mapping
from numbers import Integral

import numpy as np
from scipy.sparse import issparse
from sklearn.base import clone, is_classifier
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import check_scoring, get_scorer
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import check_array, check_random_state, resample

from skinvariant._models import seeded_clone, unfitted_steps
from skinvariant._validation import (
    as_float,
    canonical,
    check_choice,
    check_labels,
    check_number,
    in_numpy,
)
from skinvariant.guard import EncoderGuard
from skinvariant.stitching._bench import Bench, measure
from skinvariant.stitching._methods import BASELINES, FEWEST_ROWS
from skinvariant.stitching._report import StitchingReport
from skinvariant.voting import InvariantVotingClassifier, InvariantVotingRegressor


def cross_stitch(
    model,
    spaces,
    y,
    *,
    head=None,
    baselines=BASELINES,
    n_anchors=None,
    n_seeds=5,
    scoring=None,
    groups=None,
    n_resamples=100,
    random_state=None,
    n_jobs=None,
    verbose=False,
):
    """Measure every head under every encoder, and the alternatives to stitching.

    For each space and each draw of anchors a clone of the model is fitted ("own")
    and stitched to every other space ("stitched").  The anchors of one seed are the
    same rows in every space, for stitching and for the baselines.

    Parameters
    ----------
    model : estimator
        A classifier or regressor, which need not be fitted, since clones of it are:

        - an `InvariantVotingClassifier`, or another head that projects itself, as
          `skinvariant.heads.InvariantClassifier`;
        - a Pipeline that starts with a projecting step, as
          ``make_pipeline(InvariantAggregator(), LogisticRegression())``;
        - a VotingClassifier or VotingRegressor of such, which all get the same anchors.

        An `EncoderGuard` in it is left out: it passes every row through unchanged.
    spaces : mapping of str to (X_train, X_test)
        Two spaces or more by name, each an array-like of shape
        (n_train, n_features) and one of shape (n_test, n_features).  All correspond:
        the same samples in the same order, of any width.
    y : tuple of (y_train, y_test)
        The targets of the training and the test rows: labels, both of shape
        (n_samples,), where those of `y_test` must occur in `y_train`; or numbers, both
        of shape (n_samples,) or both of shape (n_samples, n_outputs).
    head : estimator, default=None
        What the baselines train on absolute rows.  None: a StandardScaler, since
        absolute rows may have any scale, and the steps of the model after the
        projecting one; for a head that projects itself LogisticRegression or RidgeCV.
    baselines : sequence of str, default=BASELINES
        What to measure besides "own" and "stitched":

        - "majority": the most frequent class or the mean target, whatever the rows;
        - "absolute": the head trained on absolute rows of one space and used on
          unchanged rows of the other, where the widths agree;
        - "translate_orthogonal" and so on: the same head, used on rows of the other
          space behind a `skinvariant.translation.SpaceTranslator` of that method,
          which is fitted on the anchors;
        - "few_shot": the head trained on the encoder's anchors and their labels alone;
          where all anchors are of one class, that class;
        - "retrained": the head trained on all of the encoder's training rows.
    n_anchors : int or sequence of int, default=None
        How many anchors; several for a curve, where the smaller sets are the first
        anchors of the larger ones.  None: as many as the model has.
    n_seeds : int, default=5
        How many draws of anchors.  There is only one where nothing is drawn: with
        ``anchors="all"`` or indices.
    scoring : str or callable, default=None
        A scorer of scikit-learn; larger is better.  None: "accuracy" of a
        classifier, "r2" of a regressor.
    groups : array-like of shape (n_test,), default=None
        A label for each test row, such as its language or customer: strings, whole
        numbers, bools or `numpy.datetime64`.  Each group of 10 or more test rows gets
        scores of its own.
    n_resamples : int, default=100
        How often the test rows are resampled for the intervals; 0: never.
    random_state : int, RandomState instance or None, default=None
        Seed of the draws, of the resamples, and of every `random_state` in the model
        and head that is None.
    n_jobs : int, default=None
        How many processes.  None is 1, -1 all processors.  Each works with one
        thread, so that their number never changes the result.
    verbose : bool, default=False
        Whether to show a progress bar of heads, which needs tqdm.

    Returns
    -------
    StitchingReport
        All scores.  `print` it first.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not as documented, or no group has 10 test rows.
    ImportError
        If `verbose` and tqdm is not installed.

    Notes
    -----
    Anchors are drawn by the strategy of the model.  "kmeans", "farthest" and
    callables draw in the space of the head (for the baseline "few_shot", in that of
    the encoder), and the same rows are taken in the other.  For "kmeans" and callables
    several `n_anchors` are drawn one by one and not nested.

    Resampling is the bootstrap: n_test test rows with replacement; with class labels
    within each class, so that none is lost.  Every model predicts the test rows only
    once.  A scorer gets an estimator that returns these predictions, and row numbers
    as `X`: a scorer that uses the values of `X` does not work.

    A class that the anchors lack has probability 0 by the baseline "few_shot".

    For a classifier the report has the recall of each class as well, and, for every
    method, the share of test rows whose prediction differs from that of "own", the
    model before the swap: "disagreement" of any kind, and "negative_flips", right
    before and wrong after.  Classes and groups of fewer than 10 test rows have NaN, and
    so have groups for which the scorer returns NaN or raises a ValueError, as
    "roc_auc" where all rows are of one class.

    References
    ----------
    L. Moschella et al., "Relative representations enable zero-shot latent space
    communication", ICLR 2023, arXiv 2209.15430 (stitching and its index);
    V. Maiorca et al., "Latent space translation via semantic alignment", NeurIPS
    2023, arXiv 2311.00664 (translation by the same anchors).

    Examples
    --------
    Two spaces that differ by a rotation, which leaves cosines unchanged:

    >>> from sklearn.linear_model import RidgeClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from skinvariant import RelativeProjector
    >>> from skinvariant.datasets import make_related_spaces
    >>> from skinvariant.stitching import cross_stitch
    >>> pair = make_related_spaces(300, n_classes=5, random_state=1)
    >>> spaces = {"old": (pair.X_a[:200], pair.X_a[200:]),
    ...           "new": (pair.X_b[:200], pair.X_b[200:])}
    >>> model = make_pipeline(RelativeProjector(30), RidgeClassifier())
    >>> report = cross_stitch(model, spaces, (pair.y[:200], pair.y[200:]),
    ...                       baselines=["majority", "absolute"], random_state=0)
    >>> report.stitching_index().round(3).tolist()
    [[1.0, 1.0], [1.0, 1.0]]
    >>> report.matrix("absolute").round(2).tolist()
    [[1.0, 0.23], [0.18, 1.0]]
    """
    names, train, test = _check_spaces(spaces)
    y_train, y_test = _check_targets(model, y, train[0].shape[0], test[0].shape[0])
    model = _without_guards(model)
    paths, later = unfitted_steps(model)
    strategy, n_own = (
        model.get_params()[paths[0] + name] for name in ("anchors", "n_anchors")
    )
    baselines = [baselines] if isinstance(baselines, str) else list(baselines)
    choices = dict.fromkeys(BASELINES)
    for name in baselines:
        check_choice("baselines", name, choices, or_else="a sequence of these")
    check_number("n_seeds", n_seeds, Integral, 1)
    check_number("n_resamples", n_resamples, Integral, 0)
    random_state = check_random_state(random_state)
    drawn = callable(strategy) or (isinstance(strategy, str) and strategy != "all")
    seeds = random_state.randint(2**31 - 1, size=n_seeds if drawn else 1).tolist()
    counts_hits = is_classifier(model) and str(scoring) in ("None", "accuracy")
    scorer, scoring = _check_scorer(scoring, model)
    if head is None:
        head = _default_head(model, later, train[0])
    classes = np.unique(y_train) if is_classifier(model) else None
    every, stratify = np.arange(len(y_test)), None if classes is None else y_test
    rows = [every] + [
        resample(every, stratify=stratify, random_state=random_state)
        for _ in range(n_resamples)
    ]
    bench = Bench(
        train=train,
        test=test,
        y_train=y_train,
        y_test=y_test,
        classes=classes,
        model=model,
        paths=paths,
        strategy=strategy,
        head=seeded_clone(head, seeds[0]),
        methods=("own", "stitched", *(x for x in BASELINES if x in baselines)),
        counts=_check_counts(n_anchors, n_own, strategy, train[0].shape[0]),
        scorer=scorer,
        counts_hits=counts_hits,
        rows=rows,
        times=np.array([np.bincount(x, minlength=len(every)) for x in rows], float),
        in_class={} if classes is None else _parts("class", y_test, classes),
        in_group=_check_groups(groups, len(y_test)),
    )
    scores, resampled = measure(bench, seeds, n_jobs=n_jobs, verbose=verbose)
    return StitchingReport(
        spaces=names,
        methods=bench.methods,
        n_anchors=bench.counts,
        scoring=scoring,
        measures=bench.measures,
        scores=scores,
        resampled=resampled,
        votes=isinstance(
            model[-1] if isinstance(model, Pipeline) else model,
            InvariantVotingClassifier | InvariantVotingRegressor,
        ),
    )


def _without_guards(model):
    """Return a model in which steps that only report rows are left out."""
    if not hasattr(model, "get_params"):
        return model
    parts = model.get_params().items()
    guards = [name for name, part in parts if isinstance(part, EncoderGuard)]
    return clone(model).set_params(**dict.fromkeys(guards, "passthrough"))


def _described(parts):
    """Return the type of what is no pair, and its length."""
    many = f" of {len(parts)}" if isinstance(parts, tuple | list) else ""
    return f"{type(parts).__name__}{many}"


def _check_spaces(spaces):
    """Return names, training and test rows of spaces that correspond."""
    if not isinstance(spaces, Mapping):
        raise TypeError(
            "spaces must be a mapping of names to (X_train, X_test); got "
            f"{type(spaces).__name__}"
        )
    if len(spaces) < 2:
        raise ValueError(f"spaces must be at least 2; got {list(spaces)}")
    parts = ([], [])
    for name, pair in spaces.items():
        if not isinstance(name, str):
            raise TypeError(f"the names of spaces must be strings; got {name!r}")
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise ValueError(
                f"spaces[{name!r}] must be a pair (X_train, X_test); got "
                f"{_described(pair)}"
            )
        for what, part, X in zip(("train", "test"), parts, pair, strict=True):
            called = f"X_{what} of spaces[{name!r}]"
            X = check_array(in_numpy(called, X), accept_sparse="csr", input_name=called)
            if part and X.shape[0] != part[0].shape[0]:
                raise ValueError(
                    "spaces must correspond row by row; got X_"
                    f"{what} of {next(iter(spaces))!r} with {part[0].shape[0]} rows, "
                    f"of {name!r} with {X.shape[0]}"
                )
            # scikit-learn's scalers miscount entries in several parts
            part.append(canonical(as_float(X)))
        if parts[0][-1].shape[1] != parts[1][-1].shape[1]:
            raise ValueError(
                f"spaces[{name!r}] must have one width; got X_train with "
                f"{parts[0][-1].shape[1]} features, X_test with "
                f"{parts[1][-1].shape[1]}"
            )
    return tuple(spaces), *parts


def _check_targets(model, y, n_train, n_test):
    """Return the targets of the training and the test rows as arrays."""
    if not isinstance(y, tuple | list) or len(y) != 2:
        raise ValueError(f"y must be a pair (y_train, y_test); got {_described(y)}")
    targets = []
    for name, part, n_rows in zip(
        ("y_train", "y_test"), y, (n_train, n_test), strict=True
    ):
        if is_classifier(model) and getattr(part, "ndim", 1) != 2:
            part = check_labels(part, name)
        part = np.asarray(in_numpy(name, part))
        if part.ndim not in (1, 2) or len(part) != n_rows:
            raise ValueError(
                f"{name} must have one entry for each of the {n_rows} rows of the "
                f"spaces; got shape {part.shape}"
            )
        if not is_classifier(model):
            part = check_array(part, dtype="numeric", ensure_2d=False, input_name=name)
        targets.append(part)
    y_train, y_test = targets
    # one column against rows would be compared as n x n labels
    if y_train.shape[1:] != y_test.shape[1:]:
        raise ValueError(
            "y_train and y_test must both be of shape (n_samples,), or have the same "
            f"columns; got shapes {y_train.shape} and {y_test.shape}"
        )
    if not is_classifier(model):
        return targets
    if y_train.ndim == 2:
        raise ValueError(
            "y_train and y_test must be of shape (n_samples,), since each row has one "
            f"label; got shapes {y_train.shape} and {y_test.shape}"
        )
    labels = set(y_train.tolist())
    if unknown := set(y_test.tolist()) - labels:
        raise ValueError(
            f"y_test must have labels of y_train, {sorted(labels, key=str)[:10]}; "
            f"got {sorted(unknown, key=str)[:10]}"
        )
    return targets


def _parts(kind, labels, names):
    """Return a mask of the rows of each label, by measure; None where they are few."""
    masks = {f"{kind} {name}": labels == name for name in names}
    return {
        measure: mask if mask.sum() >= FEWEST_ROWS else None
        for measure, mask in masks.items()
    }


def _check_groups(groups, n_test):
    """Return masks of the test rows of each group, by measure."""
    if groups is None:
        return {}
    groups = check_labels(groups, "groups")
    if len(groups) != n_test:
        raise ValueError(
            f"groups must have one label for each of the {n_test} test rows; got "
            f"{len(groups)}"
        )
    names, sizes = np.unique(groups, return_counts=True)
    if max(sizes) < FEWEST_ROWS:
        raise ValueError(
            f"groups must have a group of {FEWEST_ROWS} or more test rows, since fewer "
            f"show little; got {len(names)} groups of at most {max(sizes)}"
        )
    return _parts("group", groups, names)


def _default_head(model, later, X):
    """Return what comes after the projecting step, or a linear head, on unit scale.

    The penalty of a head for relative vectors suits their unit scale: on small absolute
    values it would make an unfairly weak baseline.
    """
    scaler = StandardScaler(with_mean=not issparse(X))
    if later:
        scaled = any(isinstance(step, StandardScaler) for step in later)
        return make_pipeline(*([] if scaled else [scaler]), *later)
    linear = RidgeCV(alphas=np.logspace(-3, 3, 7))
    if is_classifier(model):
        linear = LogisticRegression(max_iter=1000)
    return make_pipeline(scaler, linear)


def _check_scorer(scoring, model):
    """Return a scorer and its name."""
    if scoring is None:
        scoring = "accuracy" if is_classifier(model) else "r2"
    if isinstance(scoring, str):
        return get_scorer(scoring), scoring
    if not callable(scoring):
        raise TypeError(f"scoring must be a string or a callable; got {scoring!r}")
    # check_scoring refuses a metric function in the place of a scorer
    name = getattr(scoring, "__name__", repr(scoring))
    return check_scoring(model, scoring=scoring), name


def _check_counts(n_anchors, n_own, strategy, n_rows):
    """Return the numbers of anchors, ascending, once each."""
    most, of = n_rows, "training rows"
    if isinstance(strategy, str) and strategy == "all":
        n_own = n_rows
        if n_anchors is not None:
            raise ValueError(
                f"n_anchors must be None with anchors='all'; got {n_anchors!r}"
            )
    elif not isinstance(strategy, str) and not callable(strategy):
        n_own = most = np.shape(strategy)[0]
        of = "given anchors"
    counts = np.atleast_1d(np.array(n_own if n_anchors is None else n_anchors, object))
    if counts.size == 0:
        raise ValueError("n_anchors must be at least one number; got none")
    for count in counts:
        check_number("n_anchors", count, Integral, 1)
    if max(counts) > most:
        raise ValueError(
            f"n_anchors must be at most the {most} {of}; got {max(counts)}"
        )
    return tuple(sorted({int(count) for count in counts}))
