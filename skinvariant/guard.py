"""A transformer that reports rows of another encoder."""

import warnings
from math import comb
from numbers import Integral, Real
from threading import Lock

import numpy as np
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant._dask import in_memory, is_dask_array
from skinvariant._energy import (
    SHRINKAGE,
    coefficient,
    compare_norms,
    distances_between,
    draw_subsets,
    energy_coefficients,
    fit_whitening,
    row_norms,
    share_reached,
    whiten,
)
from skinvariant._threads import one_blas_thread
from skinvariant._validation import check_choice, check_number, take_rows, to_numpy

__all__ = ["EncoderGuard"]

_ACTIONS = dict.fromkeys(("warn", "raise"))
# rows that the whitening is fitted on, at most, and columns that it keeps
_WHITENED, _COMPONENTS = 1000, 128
# one row in so many is taken of a batch, and of a small one this part of the window
_PART = 8
# of fewer rows none can be spared for the whitening
_FEW = 40
# rows in the smallest window
_FEWEST = 4
# how many values beyond the threshold are simulated
_BEYOND = 10


class _Window:
    """The last rows, whitened, with their distances and norms; shared by threads."""

    def __init__(self):
        self.lock = Lock()
        self.reset()

    def reset(self):
        self.waiting, self.n_waiting = [], 0
        self.compared = None
        self.keys = {}  # of all these rows, in their order
        self.latest = np.nan, 0, None  # p value, number of rows, norms

    def append(self, parts, size):
        """Add compared rows to those of before, and keep the last ones."""
        if self.compared is not None:
            pairs = zip(self.compared, parts, strict=True)
            parts = [np.concatenate(pair) for pair in pairs]
        self.compared = [part[-size:] for part in parts]


class EncoderGuard(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Report rows that are not of the encoder that it was fitted on.

    Its place is right behind the encoder: it passes every row through unchanged, and
    compares the last rows, over all calls, with some of those it was fitted on.  Two
    encoders of one width cannot be distinguished by any check of shapes.

    Parameters
    ----------
    on_mismatch : {"warn", "raise"}, default="warn"
        Whether other rows are a UserWarning or a ValueError.
    false_alarms : float in [0.5, 100], default=1.0
        How many of 1,000 batches of right rows are reported, on average, at most.  A
        batch is what one call of `transform` takes.
    window : int, default=64
        How many of the last rows are compared.  Until there are as many, the last 4,
        8, 16, ... are.
    n_reference : int, default=300
        How many of the fitted rows they are compared with.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of these rows, and of the simulated windows.

    Attributes
    ----------
    p_value_ : float
        Of the latest comparison: the share of simulated windows of right rows, the
        window itself among them, that differ from the fitted rows as much.  NaN before
        the first comparison.
    n_reference_ : int
        How many rows there are to compare with.
    n_features_in_ : int
        Width of the encoder's rows.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted rows, if they had any.

    See Also
    --------
    skinvariant.comparison.encoder_test : The same for rows at hand.
    skinvariant.stitch : Fits the guard to the new encoder's anchors.

    Notes
    -----
    Rows are whitened by the covariance of other fitted rows (to 3% a multiple of the
    identity; not at all where fewer than 40 rows are fitted), and more than 128 columns
    are projected at random onto 128.
    The statistic is the energy coefficient [1]_ of the window and the reference.  It is
    compared with that of `fit`'s own rows, drawn at random for a window of each size.
    So a report means that the last rows are no random sample of what `fit` had.  A
    guard cannot know the reason: data that drift, or come sorted, look like another
    encoder.  In turn, encoders that differ by rounding, or in few rows, are not
    noticed, nor is one that returns the same one to three rows for all samples.

    The rate holds for independent rows.  It is that of each comparison, so the mean
    does not depend on how windows overlap; but reports come in groups, since every
    batch is reported until the next comparison.  `reset` ends that at once.

    Of a batch, an eighth is compared, at equal distances: no more rows than the window
    has, and no fewer than an eighth of that, or all.  A row that comes again counts
    once.  Rows are collected until half the window is new; an empty window is compared
    at 4, 8, 16, ... rows.  The window belongs to one process: a copy, a pickle or a
    worker of joblib starts with an empty one, and threads share it.

    References
    ----------
    .. [1] Székely and Rizzo, "Energy statistics: a class of statistics based on
       distances", Journal of Statistical Planning and Inference 143(8), 2013.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.kernel_approximation import Nystroem
    >>> from sklearn.model_selection import train_test_split
    >>> from skinvariant import EncoderGuard
    >>> X, X_live = train_test_split(load_digits().data, random_state=0)
    >>> encoder, other = (
    ...     Nystroem(gamma=1e-3, n_components=100, random_state=seed).fit(X)
    ...     for seed in (0, 1)
    ... )
    >>> guard = EncoderGuard(on_mismatch="raise", random_state=0)
    >>> guard = guard.fit(encoder.transform(X))
    >>> rows = guard.transform(encoder.transform(X_live))
    >>> guard.p_value_
    0.006
    >>> guard.transform(other.transform(X_live))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    ValueError: the last 64 rows must be of the encoder...
    >>> guard.p_value_
    0.0001
    """

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "skinvariant.{estimator_name}.html"
    )

    def __init__(
        self,
        *,
        on_mismatch="warn",
        false_alarms=1.0,
        window=64,
        n_reference=300,
        random_state=None,
    ):
        self.on_mismatch = on_mismatch
        self.false_alarms = false_alarms
        self.window = window
        self.n_reference = n_reference
        self.random_state = random_state

    def fit(self, X, y=None):
        """Keep rows of the encoder, and simulate windows of them.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the encoder, like those that will come: a random sample.
        y : ignored
            Not used.

        Returns
        -------
        EncoderGuard
            The fitted transformer itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the input is not as documented, all rows are equal, or
            there are too few to simulate windows at this rate of false alarms.
        """
        self._fit(X)
        return self

    def fit_transform(self, X, y=None):
        """Fit, and return the rows, which do not count as rows to compare.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the encoder.
        y : ignored
            Not used.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows.
        """
        return self._fit(X)

    def _fit(self, X):
        """Fit, and return the validated rows."""
        check_choice("on_mismatch", self.on_mismatch, _ACTIONS)
        check_number("false_alarms", self.false_alarms, Real, 0.5, 100)
        check_number("window", self.window, Integral, _FEWEST)
        check_number("n_reference", self.n_reference, Integral, 8)
        X = self._validate(X, reset=True, ensure_min_samples=2)
        rng = check_random_state(self.random_state)
        order = rng.permutation(X.shape[0])
        few = X.shape[0] < _FEW
        n_reference = min(self.n_reference, X.shape[0] if few else X.shape[0] // 2)
        level = self.false_alarms / 1000
        sizes, size = [], _FEWEST
        while size < self.window:
            sizes.append(size)
            size *= 2
        sizes = [
            size
            for size in [*sizes, int(self.window)]
            if 2 * size <= n_reference and comb(n_reference, size) * level >= _BEYOND
        ]
        if not sizes:
            raise ValueError(
                "X must have more rows, so that enough windows of them differ for "
                f"false_alarms={self.false_alarms}; got n_samples={X.shape[0]}"
            )
        with one_blas_thread:
            # never by the reference itself, which would look unlike later rows
            others = order if few else order[n_reference:][:_WHITENED]
            unit, mean, matrix = fit_whitening(
                to_numpy(take_rows(X, others)), shrinkage=1.0 if few else SHRINKAGE
            )
            if len(matrix) > _COMPONENTS:
                normal = rng.standard_normal((len(matrix), _COMPONENTS))
                matrix = matrix @ (normal / np.sqrt(_COMPONENTS))
            reference = to_numpy(take_rows(X, order[:n_reference]))
            rows = whiten(reference, unit, mean, matrix)
            distances = distances_between(rows, rows)
        n_draws = int(np.ceil(_BEYOND / level)) - 1
        subsets = draw_subsets(n_reference, sizes[-1], n_draws, rng)
        # a dict, so that a guard of tensors has no arrays of another library
        self._reference = {
            "unit": unit,
            "mean": mean,
            "matrix": matrix,
            "rows": rows,
            "norms": row_norms(reference, unit),
            "distance": float(distances.mean()),
            "null": {
                str(size): np.sort(energy_coefficients(distances, subsets[:, :size]))
                for size in sizes
            },
        }
        self.n_reference_ = n_reference
        self._window = _Window()
        return X

    def transform(self, X):
        """Return the rows unchanged, and compare them with those of `fit`.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            Rows of the encoder.

        Returns
        -------
        ndarray of shape (n_samples, n_features)
            The rows; never a function of the others.

        Raises
        ------
        ValueError
            With `on_mismatch="raise"`, if the last rows are of another encoder; if the
            width is another one, or a value is not finite.

        Warns
        -----
        UserWarning
            With `on_mismatch="warn"`, if the last rows are of another encoder.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        n_rows, window = X.shape[0], self._window
        largest = max(map(int, self._reference["null"]))
        n_kept = min(n_rows, max(largest, n_rows) // _PART + 1, largest)
        kept = np.arange(n_kept) * n_rows // n_kept
        rows = to_numpy(X if n_kept == n_rows else take_rows(X, kept))
        keys = [row.tobytes() for row in rows]
        with window.lock:
            # a row that comes again is no further evidence
            new = {key: i for i, key in enumerate(keys) if key not in window.keys}
            if new:
                window.waiting.append(rows[list(new.values())])
            window.n_waiting += len(new)
            window.keys.update(new)
            for key in list(window.keys)[: -2 * largest]:
                del window.keys[key]
            held = 0 if window.compared is None else len(window.compared[0])
            # comparing costs more than waiting
            if window.n_waiting >= min(max(held, _FEWEST), max(largest // 2, 1)):
                self._compare(window, largest)
            latest = window.latest
        if latest[0] <= self.false_alarms / 1000:
            self._report(*latest)
        return X

    def _compare(self, window, largest):
        """Compare a window with the fitted rows."""
        fitted = self._reference
        new = np.concatenate(window.waiting)[-largest:]
        window.waiting, window.n_waiting = [], 0
        with one_blas_thread:
            rows = whiten(new, fitted["unit"], fitted["mean"], fitted["matrix"])
            distances = distances_between(rows, fitted["rows"]).mean(axis=1)
            parts = [rows, distances, row_norms(new, fitted["unit"])]
            window.append(parts, largest)
            rows, distances, norms = window.compared
            sizes = [n for n in map(int, fitted["null"]) if n <= len(rows)]
            if not sizes:
                return
            n_rows = max(sizes)
            rows = rows[-n_rows:]
            inside = distances_between(rows, rows).mean()
        found = coefficient(distances[-n_rows:].mean(), inside, fitted["distance"])
        p_value = share_reached(fitted["null"][str(n_rows)], found)
        window.latest = p_value, n_rows, norms[-n_rows:]

    def _report(self, p_value, n_rows, norms):
        fitted = self._reference
        shown = compare_norms(fitted["norms"], norms, fitted["unit"])
        message = (
            f"the last {n_rows} rows must be of the encoder that EncoderGuard was "
            "fitted on: its model, prompt, pooling and normalisation, and the data "
            f"must be alike; got rows with a p value of {p_value:.2g}, which "
            f"{self.false_alarms:g} of 1,000 batches of right rows have"
            + f" ({shown})"
            * bool(shown)
        )
        if self.on_mismatch == "raise":
            raise ValueError(message)
        warnings.warn(message, UserWarning, stacklevel=4)

    def reset(self):
        """Forget the rows of earlier calls.

        Returns
        -------
        EncoderGuard
            The transformer itself.
        """
        check_is_fitted(self)
        with self._window.lock:
            self._window.reset()
        return self

    def rebase(self, anchors):
        """Return a guard of another encoder, fitted on anchors in its space.

        `skinvariant.stitch` calls it.

        Parameters
        ----------
        anchors : array-like of shape (n_anchors, n_features_new)
            Rows of the new encoder, a random sample.

        Returns
        -------
        EncoderGuard
            A new fitted guard.  This one is not changed.

        Raises
        ------
        ValueError
            If there are too few anchors to simulate windows.
        """
        check_is_fitted(self)
        return clone(self).fit(in_memory(anchors))

    @property
    def p_value_(self):
        """P value of the latest comparison; NaN before the first one."""
        check_is_fitted(self)
        return self._window.latest[0]

    def _validate(self, X, **options):
        if is_dask_array(X):
            raise TypeError(
                "X must be in memory, since a dask array is computed later: put the "
                "guard where blocks are encoded; got a dask array"
            )
        return validate_data(self, X, dtype="numeric", **options)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_reference")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def __getstate__(self):
        return {k: v for k, v in super().__getstate__().items() if k != "_window"}

    def __setstate__(self, state):
        super().__setstate__(state)
        if "_reference" in state:
            self._window = _Window()
