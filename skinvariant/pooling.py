"""Opinion pools: the predictions of several fitted models, weighted and combined."""

from numbers import Integral, Real

import numpy as np
from scipy.optimize import minimize, nnls
from scipy.special import log_softmax
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skinvariant._validation import check_number, in_numpy
from skinvariant.metrics._rows import power_of_two

__all__ = [
    "PooledClassifier",
    "PooledRegressor",
    "linear_pool_weights",
    "log_pool_weights",
    "signal_to_noise",
    "smoothed_log",
]


# the largest weight or strength: its square is within the range of float64
_MOST = 1e100


def _check_prior(prior, n_members):
    """Return the prior weights, equal ones of sum 1 by default."""
    if prior is None:
        return np.full(n_members, 1 / n_members)
    prior = in_numpy("prior", prior)
    if isinstance(prior, str) or not np.iterable(prior):
        raise TypeError(
            f"prior must be a sequence of {n_members} numbers; got {prior!r}"
        )
    weights = [float(check_number("prior", weight, Real, 0, _MOST)) for weight in prior]
    if len(weights) != n_members:
        raise ValueError(
            f"prior must be {n_members} finite numbers >= 0, one per member; got "
            f"{weights}"
        )
    return np.array(weights)


def _check_stack(name, values, targets, ndim):
    """Return checked predictions, of each member for each target, and targets."""
    if isinstance(values, list | tuple):
        values = [in_numpy(name, value) for value in values]
    values, targets = (
        np.asarray(in_numpy(what, array), dtype=np.float64)
        for what, array in ((name, values), ("targets", targets))
    )
    if values.ndim != ndim or values.shape[1:] != targets.shape or not values.size:
        raise ValueError(
            f"{name} must be of shape (n_members, *targets.shape), with at least one "
            f"member and row; got {values.shape}, and targets of {targets.shape}"
        )
    if not (np.isfinite(values).all() and np.isfinite(targets).all()):
        raise ValueError(f"{name} and targets must be finite; got NaN or infinity")
    return values, targets


def log_pool_weights(log_probas, targets, *, prior=None, alpha=10.0):
    r"""Weights of a logarithmic opinion pool that suit some rows best.

    The probabilities of the pool [1]_ are

    .. math:: p(c) \propto \prod_m p_m(c)^{w_m}.

    The weights w minimise the cross-entropy of the targets t, summed over rows i, plus
    a penalty on their distance from the prior weights v,

    .. math:: -\sum_{i, c} t_{ic} \log p_i(c) + \alpha \lVert w - v \rVert^2,

    and are not negative.  They need not sum to 1: with a larger sum the probabilities
    of the pool are further from uniform than those of its members.

    Parameters
    ----------
    log_probas : array-like of shape (n_members, n_samples, n_classes)
        Log-probabilities of the classes by each member.
    targets : array-like of shape (n_samples, n_classes)
        Probabilities of the classes: 0 and 1 for a label.
    prior : array-like of shape (n_members,), default=None
        The weights where there is no evidence, in [0, 1e100].  None: equal
        ones of sum 1.
    alpha : float in [0, 1e100], default=10.0
        How many nats of evidence it takes to move a weight by 1 from its prior.  0:
        the rows alone decide; towards infinity: the prior.

    Returns
    -------
    ndarray of shape (n_members,)
        The weights, >= 0.

    Raises
    ------
    ValueError, TypeError
        If a parameter or a shape is not as documented.

    References
    ----------
    .. [1] C. Genest and J. V. Zidek, "Combining probability distributions: a critique
       and an annotated bibliography", Statistical Science 1(1), 1986.

    Examples
    --------
    One member is right with probability .8, one is uniform, and one is wrong:

    >>> import numpy as np
    >>> from skinvariant.pooling import log_pool_weights
    >>> targets = np.eye(2)[[0, 1] * 50]
    >>> right = np.log(0.8 * targets + 0.2 * (1 - targets))
    >>> members = [right, np.full((100, 2), np.log(0.5)), right[:, ::-1]]
    >>> weights = log_pool_weights(members, targets)
    >>> weights.round(2).tolist()
    [1.31, 0.33, 0.0]
    """
    log_probas, targets = _check_stack("log_probas", log_probas, targets, 3)
    prior = _check_prior(prior, len(log_probas))
    check_number("alpha", alpha, Real, 0, _MOST)

    def loss(weights):
        pooled = log_softmax(np.tensordot(weights, log_probas, 1), axis=1)
        error = np.exp(pooled) * targets.sum(axis=1, keepdims=True) - targets
        off = weights - prior
        value = -(targets * pooled).sum() + alpha * off @ off
        return value, np.tensordot(log_probas, error, 2) + 2 * alpha * off

    found = minimize(
        loss,
        prior,
        jac=True,
        bounds=[(0, None)] * len(prior),
        method="L-BFGS-B",
        options={"ftol": 1e-12, "gtol": 1e-6},
    )
    return found.x


def linear_pool_weights(predictions, targets, *, prior=None, alpha=10.0):
    r"""Weights of a linear pool of predictions that suit some rows best.

    With the mean squared error :math:`s^2` of the pool under the prior weights v, the
    weights w of the predictions f minimise

    .. math::

        \frac{1}{2 s^2} \sum_i \Bigl(t_i - \sum_m w_m f_{mi}\Bigr)^2
        + \alpha \lVert w - v \rVert^2

    over the rows i with their targets t, and are not negative.  This is a ridge
    regression towards the prior.

    Parameters
    ----------
    predictions : array-like of shape (n_members, n_samples[, n_outputs])
        What each member predicts, if possible after subtraction of a common centre.
    targets : array-like of shape (n_samples,) or (n_samples, n_outputs)
        The true values, after subtraction of the same centre.
    prior : array-like of shape (n_members,), default=None
        The weights where there is no evidence, in [0, 1e100].  None: equal
        ones of sum 1.
    alpha : float in [0, 1e100], default=10.0
        Strength of the prior.  0: the rows alone decide; towards infinity: the prior.

    Returns
    -------
    ndarray of shape (n_members,)
        The weights, >= 0.

    Raises
    ------
    ValueError, TypeError
        If a parameter or a shape is not as documented.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.pooling import linear_pool_weights
    >>> targets = np.linspace(-1, 1, 1000)
    >>> weights = linear_pool_weights([targets / 2, -targets], targets, alpha=0)
    >>> weights.round(6).tolist()
    [2.0, 0.0]
    """
    ndim = np.ndim(targets) + 1
    predictions, targets = _check_stack("predictions", predictions, targets, ndim)
    prior = _check_prior(prior, len(predictions))
    check_number("alpha", alpha, Real, 0, _MOST)
    unit = power_of_two(max(np.abs(predictions).max(), np.abs(targets).max()))
    rows = predictions.reshape(len(predictions), -1).T / unit
    targets = targets.ravel() / unit
    unit = np.sqrt(2 * np.mean((rows @ prior - targets) ** 2))
    if unit == 0:
        return prior
    pull = np.sqrt(alpha) * np.eye(len(prior))
    return nnls(np.vstack([rows / unit, pull]), np.r_[targets / unit, pull @ prior])[0]


def signal_to_noise(agreements, *, floor=1e-2):
    r"""Return prior weights from correlations: their signal-to-noise ratios.

    The values of a member that correlate by c with their targets carry signal and noise
    with variances in the ratio :math:`c^2 / (1 - c^2)`.  In the best unbiased mean of
    independent members, each has a weight proportional to this ratio.

    Parameters
    ----------
    agreements : array-like of shape (n_members,)
        Correlations in [0, 1].
    floor : float >= 2.2e-16, default=0.01
        Added to the variance of the noise, :math:`1 - c^2`, so that the ratio of a
        perfect correlation is finite.

    Returns
    -------
    ndarray of shape (n_members,)
        Weights with sum 1; equal ones if all correlations are 0.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not as documented.

    Examples
    --------
    >>> from skinvariant.pooling import signal_to_noise
    >>> signal_to_noise([0.9, 0.5, 0.0]).round(2).tolist()
    [0.92, 0.08, 0.0]

    A smaller floor separates nearly perfect members more:

    >>> signal_to_noise([1.0, 0.99]).round(2).tolist()
    [0.75, 0.25]
    >>> signal_to_noise([1.0, 0.99], floor=0.001).round(2).tolist()
    [0.96, 0.04]
    """
    check_number("floor", floor, Real, np.finfo(np.float64).eps, _MOST)
    agreements = in_numpy("agreements", agreements)
    # by rounding a correlation may be just above 1
    checked = [check_number("agreements", c, Real, 0, 1 + 1e-9) for c in agreements]
    squares = np.square(np.minimum(checked, 1.0))
    ratios = squares / (1 - squares + floor)
    if not ratios.any():
        return np.full(len(ratios), 1 / len(ratios))
    return ratios / ratios.sum()


def smoothed_log(proba, n_rows):
    r"""Return log-probabilities, smoothed as though they were shares of some rows.

    Laplace's rule of succession makes of a probability p the smoothed

    .. math:: (n p + 1) / (n + n_\mathrm{classes}).

    Without it, a member with a probability of 0 would veto a class for all others.

    Parameters
    ----------
    proba : ndarray of shape (n_samples, n_classes)
        Probabilities.
    n_rows : int >= 0
        The number of rows n.

    Returns
    -------
    ndarray of shape (n_samples, n_classes)
        Log-probabilities, in float64.

    Raises
    ------
    ValueError, TypeError
        If `n_rows` is not as documented.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.pooling import smoothed_log
    >>> np.exp(smoothed_log(np.array([[1.0, 0.0]]), 98)).round(2).tolist()
    [[0.99, 0.01]]
    """
    check_number("n_rows", n_rows, Integral, 0)
    proba = np.asarray(in_numpy("proba", proba), dtype=np.float64)
    return np.log((n_rows * proba + 1) / (n_rows + proba.shape[1]))


class _Pool(BaseEstimator):
    """What both pools share."""

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "{estimator_module}.{estimator_name}.html"
    )

    def __init__(self, estimators, *, prior=None, alpha=10.0):
        self.estimators = estimators
        self.prior = prior
        self.alpha = alpha

    def __sklearn_is_fitted__(self):
        return hasattr(self, "weights_")

    @property
    def weights_by_name_(self):
        """The weights as a dict by the members' names."""
        check_is_fitted(self)
        names = [name for name, _ in self.estimators]
        return dict(zip(names, self.weights_.tolist(), strict=True))

    def _members(self, method):
        """Return the fitted members, each of which has a method."""
        pairs = self.estimators if isinstance(self.estimators, list | tuple) else ()
        if pairs is not self.estimators or not all(
            isinstance(pair, list | tuple)
            and len(pair) == 2
            and isinstance(pair[0], str)
            for pair in pairs
        ):
            raise TypeError(
                "estimators must be a list of (name, fitted) pairs; got "
                f"{self.estimators!r}"
            )
        if not pairs:
            raise ValueError(
                "estimators must be at least one (name, fitted) pair; got none"
            )
        names, members = zip(*pairs, strict=True)
        if len(set(names)) < len(names):
            raise ValueError(
                f"estimators must have names that differ; got {list(names)}"
            )
        for name, member in pairs:
            check_is_fitted(member)
            if not hasattr(member, method):
                raise TypeError(
                    f"the estimators of a {type(self).__name__} must have {method}; "
                    f"got {name!r}, {member!r}"
                )
        return members


class PooledClassifier(ClassifierMixin, _Pool):
    r"""A logarithmic opinion pool of fitted classifiers, weighted by some rows.

    `skinvariant.InvariantVotingClassifier` pools its own members in the same way.

    Parameters
    ----------
    estimators : list of (str, fitted classifier)
        The members, by names that differ.  They must have `predict_proba` and the same
        `classes_`, and are not fitted again.
    prior : array-like of shape (n_members,), default=None
        The weights where there is no evidence, in [0, 1e100].  None: equal
        ones of sum 1.
    alpha : float in [0, 1e100], default=10.0
        How many nats of evidence it takes to move a weight by 1 from its prior.

    Attributes
    ----------
    weights_ : ndarray of shape (n_members,)
        The weights of the members' log-probabilities, >= 0.
    weights_by_name_ : dict of str to float
        The same by the members' names.
    classes_ : ndarray of shape (n_classes,)
        The labels.
    n_evidence_ : int
        How many rows the weights were computed from.

    See Also
    --------
    sklearn.ensemble.VotingClassifier : Trains its members, with given weights.
    log_pool_weights : Computes the weights.

    Notes
    -----
    Each probability is smoothed as though it were a share of the `n_evidence_` rows
    (`smoothed_log`), so that no member can veto a class.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.dummy import DummyClassifier
    >>> from sklearn.naive_bayes import GaussianNB
    >>> from sklearn.neighbors import KNeighborsClassifier
    >>> from skinvariant.pooling import PooledClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> models = (DummyClassifier(), GaussianNB(), KNeighborsClassifier())
    >>> members = [(type(m).__name__, m.fit(X[:900], y[:900])) for m in models]
    >>> pool = PooledClassifier(members).fit(X[900:1200], y[900:1200])
    >>> round(pool.score(X[1200:], y[1200:]), 2)
    0.95
    >>> weights = pool.weights_by_name_
    >>> sorted(weights, key=weights.get)[-1]
    'KNeighborsClassifier'
    """

    def fit(self, X, y):
        """Compute the weights from labelled rows; the members are not changed.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows that no member was trained on.
        y : array-like of shape (n_samples,)
            Their labels, of `classes_`.

        Returns
        -------
        PooledClassifier
            Itself.

        Raises
        ------
        ValueError
            If the members have different classes, or `y` has one that they lack.
        """
        members = self._members("predict_proba")
        y = column_or_1d(in_numpy("y", y))
        classes = members[0].classes_
        if unknown := set(y.tolist()).difference(classes.tolist()):
            raise ValueError(
                f"y must hold the members' classes {classes.tolist()}; got "
                f"{sorted(unknown, key=repr)}"
            )
        targets = (y[:, None] == classes).astype(np.float64)
        for name, member in self.estimators[1:]:
            if not np.array_equal(member.classes_, classes):
                raise ValueError(
                    f"all estimators must have the classes {classes.tolist()}; got "
                    f"{name!r} with {member.classes_.tolist()}"
                )
        self.classes_, self.n_evidence_ = classes, len(targets)
        logs = [
            smoothed_log(member.predict_proba(X), len(targets)) for member in members
        ]
        self.weights_ = log_pool_weights(
            logs, targets, prior=self.prior, alpha=self.alpha
        )
        return self

    def predict_log_proba(self, X):
        """Return the logarithms of the pool's probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows as the members take them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Log-probabilities in the order of `classes_`.
        """
        check_is_fitted(self)
        members = self._members("predict_proba")
        pooled = sum(
            weight * smoothed_log(member.predict_proba(X), self.n_evidence_)
            for weight, member in zip(self.weights_, members, strict=True)
        )
        return log_softmax(pooled, axis=1)

    def predict_proba(self, X):
        """Return the pool's probabilities.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows as the members take them.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in the order of `classes_`.
        """
        return np.exp(self.predict_log_proba(X))

    def predict(self, X):
        """Return the most probable class of each row.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows as the members take them.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`.
        """
        logs = self.predict_log_proba(X)  # first: it checks that the pool is fitted
        return self.classes_[logs.argmax(axis=1)]


class PooledRegressor(RegressorMixin, _Pool):
    """A linear pool of fitted regressors, weighted by some rows.

    Parameters
    ----------
    estimators : list of (str, fitted regressor)
        The members, by names that differ.  They are not fitted again.
    prior : array-like of shape (n_members,), default=None
        The weights where there is no evidence, in [0, 1e100].  None: equal
        ones of sum 1.
    alpha : float in [0, 1e100], default=10.0
        Strength of the prior: see `linear_pool_weights`.

    Attributes
    ----------
    weights_ : ndarray of shape (n_members,)
        The weights of the members' deviations from their own centres, >= 0.
    weights_by_name_ : dict of str to float
        The same by the members' names.
    center_ : float or ndarray of shape (n_outputs,)
        Mean of the targets that the weights were computed from.
    member_centers_ : ndarray of shape (n_members,) or (n_members, n_outputs)
        Mean of each member's predictions for the same rows, which is subtracted, so
        that a constant error does not count.

    See Also
    --------
    sklearn.ensemble.VotingRegressor : Trains its members, with given weights.
    linear_pool_weights : Computes the weights.

    Examples
    --------
    >>> from sklearn.datasets import make_regression
    >>> from sklearn.dummy import DummyRegressor
    >>> from sklearn.linear_model import Ridge
    >>> from skinvariant.pooling import PooledRegressor
    >>> X, y = make_regression(300, 5, noise=1, random_state=0)
    >>> members = [("mean", DummyRegressor()), ("ridge", Ridge())]
    >>> members = [(name, m.fit(X[:100], y[:100])) for name, m in members]
    >>> pool = PooledRegressor(members, alpha=0.1).fit(X[100:200], y[100:200])
    >>> round(pool.score(X[200:], y[200:]), 2)
    1.0
    """

    def fit(self, X, y):
        """Compute the weights from rows with targets; the members are not changed.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows that no member was trained on.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their targets.

        Returns
        -------
        PooledRegressor
            Itself.
        """
        members = self._members("predict")
        predictions = [in_numpy("predictions", m.predict(X)) for m in members]
        targets = np.asarray(in_numpy("y", y), dtype=np.float64)
        self.center_ = targets.mean(axis=0)
        self.member_centers_ = np.mean(predictions, axis=1)
        self.weights_ = linear_pool_weights(
            [p - c for p, c in zip(predictions, self.member_centers_, strict=True)],
            targets - self.center_,
            prior=self.prior,
            alpha=self.alpha,
        )
        return self

    def predict(self, X):
        """Return the pool's predictions.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)
            Rows as the members take them.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Predictions.
        """
        check_is_fitted(self)
        members = self._members("predict")
        return self.center_ + sum(
            weight * (in_numpy("predictions", member.predict(X)) - center)
            for weight, member, center in zip(
                self.weights_, members, self.member_centers_, strict=True
            )
        )
