"""Fitted models as torch modules and as ONNX: the members of a vote, and their pool.

Importing this loads torch; `skinvariant.voting` imports it where it is used.
"""

import json
import warnings

import numpy as np
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import (
    ARDRegression,
    BayesianRidge,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    RidgeCV,
    SGDRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import LinearSVR

from skinvariant.metrics import METRICS
from skinvariant.persistence import fingerprint
from skinvariant.translation import SpaceTranslator

try:
    import torch

    from skinvariant import nn
except ImportError as error:
    raise ImportError(
        "to_torch and to_onnx need torch: pip install 'skinvariant[onnx]'"
    ) from error

_DTYPE = torch.float64

# whose probabilities are the softmax, or of two classes the sigmoid, of linear values
_CLASSIFIERS = (LinearDiscriminantAnalysis, LogisticRegression)
_REGRESSORS = (
    ARDRegression,
    BayesianRidge,
    Lasso,
    LinearRegression,
    LinearSVR,
    Ridge,
    RidgeCV,
    SGDRegressor,
)


# --- torch modules ----------------------------------------------------------------


class GaussianKernel(torch.nn.Module):
    """Standardised rows compared with fixed rows by a Gaussian kernel.

    Parameters
    ----------
    rows : Tensor of shape (n_rows, n_features)
        The fixed rows, standardised.
    mean, scale : Tensor of shape (n_features,)
        What standardises other rows.
    gamma : float
        The width, as `sklearn.metrics.pairwise.rbf_kernel` takes it.

    Examples
    --------
    >>> import torch
    >>> from skinvariant._export import GaussianKernel
    >>> rows = torch.eye(2)
    >>> kernel = GaussianKernel(rows, torch.zeros(2), torch.ones(2), gamma=0.5)
    >>> kernel(rows).round(decimals=3).tolist()
    [[1.0, 0.36800000071525574], [0.36800000071525574, 1.0]]
    """

    def __init__(self, rows, mean, scale, gamma):
        super().__init__()
        self.register_buffer("rows", rows)
        self.register_buffer("mean", mean)
        self.register_buffer("scale", scale)
        self.gamma = float(gamma)

    def forward(self, X):
        """Compare rows with the fixed ones.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Rows, not standardised.

        Returns
        -------
        Tensor of shape (n_samples, n_rows)
            The kernel.
        """
        X = (X - self.mean) / self.scale
        squares = (X * X).sum(dim=1, keepdim=True) + (self.rows**2).sum(dim=1)
        squares = torch.relu(squares - 2 * X @ self.rows.T)
        return torch.exp(-self.gamma * squares)


class LinearPool(torch.nn.Module):
    """The weighted sum of what members give for the same rows.

    Parameters
    ----------
    members : dict of str to Module
        Each takes rows and gives a tensor of shape (n_samples, n_outputs).
    weights : sequence of float
        The weight of each.
    intercept : Tensor of shape (n_outputs,)
        Added to the sum.

    Examples
    --------
    >>> import torch
    >>> from skinvariant._export import LinearPool
    >>> members = {"one": torch.nn.Identity(), "other": torch.nn.ReLU()}
    >>> LinearPool(members, [0.5, 2.0], torch.ones(1))(torch.tensor([[4.0]])).tolist()
    [[11.0]]
    """

    def __init__(self, members, weights, intercept):
        super().__init__()
        self.members = torch.nn.ModuleDict(members)
        weights = torch.as_tensor(weights, dtype=intercept.dtype)
        self.register_buffer("weights", weights)
        self.register_buffer("intercept", intercept)

    def forward(self, X):
        """Pool what the members give.

        Parameters
        ----------
        X : Tensor of shape (n_samples, n_features)
            Rows, of any dtype: computed is in that of the module.

        Returns
        -------
        Tensor of shape (n_samples, n_outputs)
            The pooled outputs, in the dtype of `X`.
        """
        rows = X.to(self.intercept.dtype)
        pooled = rows.new_zeros(rows.shape[0], 1) + self.intercept
        outputs = self._before(member(rows) for member in self.members.values())
        for weight, output in zip(self.weights, outputs, strict=True):
            pooled = pooled + weight * output
        return self._after(pooled).to(X.dtype)

    def _before(self, outputs):
        return outputs

    def _after(self, pooled):
        return pooled


class LogPool(LinearPool):
    """The logarithmic opinion pool of members that give logits.

    Probabilities are smoothed first, as by `skinvariant.pooling.smoothed_log`.

    Parameters
    ----------
    members : dict of str to Module
        Each takes rows and gives logits, a tensor of shape (n_samples, n_classes).
    weights : sequence of float
        The weight of each.
    intercept : Tensor of shape (n_classes,)
        Added to the weighted sum of the logarithms.
    n_rows : sequence of int
        The number of rows by which the probabilities of each are smoothed.

    Examples
    --------
    >>> import torch
    >>> from skinvariant._export import LogPool
    >>> pool = LogPool({"one": torch.nn.Identity()}, [1.0], torch.zeros(2), [98])
    >>> pool(torch.tensor([[0.0, 1000.0]])).exp().round(decimals=2).tolist()
    [[0.009999999776482582, 0.9900000095367432]]
    """

    def __init__(self, members, weights, intercept, n_rows):
        super().__init__(members, weights, intercept)
        self.n_rows = [int(n) for n in n_rows]

    def _before(self, outputs):
        for n_rows, logits in zip(self.n_rows, outputs, strict=True):
            proba = torch.softmax(logits, dim=1)
            yield torch.log((n_rows * proba + 1) / (n_rows + proba.shape[1]))

    def _after(self, pooled):
        return torch.log_softmax(pooled, dim=1)


# --- fitted estimators into modules ------------------------------------------------


def voting_module(model):
    """Return a fitted voting model as one torch module, from rows to outputs.

    Parameters
    ----------
    model : InvariantVotingClassifier or InvariantVotingRegressor
        Fitted.

    Returns
    -------
    LogPool or LinearPool
        In float64 and evaluation mode.

    Raises
    ------
    TypeError
        If a member of weight > 0 has no counterpart.
    """
    weights = {name: weight for name, weight in model.weights_.items() if weight > 0}
    members = {name: _member(model, name) for name in weights}
    layers = [m[0] for m in members.values() if isinstance(m[0], nn.RelativeLayer)]
    for layer in layers[1:]:
        layer.anchors = layers[0].anchors  # stored once
    if hasattr(model, "classes_"):
        zeros = torch.zeros(len(model.classes_), dtype=_DTYPE)
        n_rows = [model._smoothing_rows(name) for name in weights]
        return LogPool(members, list(weights.values()), zeros, n_rows).eval()
    intercept = _tensor(model.intercept_)
    return LinearPool(members, list(weights.values()), intercept).eval()


def _member(model, name):
    """Return one member, from rows to logits or targets."""
    front, affine = [], _Affine()
    if model.aggregator_ is not None:
        fitted = zip(model.aggregator_._metrics, model.aggregator_.posts_, strict=True)
        for (metric, params), post in fitted:
            if metric.name == name:
                front = [_relative_layer(model.aggregator_, metric, params, post)]
                if type(post) is StandardScaler:
                    affine.scale(post)
    steps = _flat(model.named_estimators_[name])
    for i, step in enumerate(steps):
        if type(step) is StandardScaler:
            affine.scale(step)
        elif isinstance(step, SpaceTranslator) and hasattr(step, "coef_"):
            affine.multiply(step.coef_, step.intercept_)
        elif isinstance(step, SpaceTranslator) and i == 0 and not front:
            arrays = map(_tensor, (step._rows, step._mean, step._scale))
            front = [GaussianKernel(*arrays, step.gamma_)]
            offset = step.intercept_ - step._kernel_means @ step.dual_coef_
            affine.multiply(step.dual_coef_.T, offset)
        elif i == len(steps) - 1 and _is_linear(step):
            affine.multiply(*_coefficients(step))
        else:
            raise TypeError(
                f"to_torch and to_onnx take linear members alone; member {name!r} is "
                f"{model.named_estimators_[name]!r}: as estimator a LogisticRegression "
                "would work, of a regressor Ridge, LinearRegression or the like, alone "
                "or at the end of a Pipeline of StandardScalers"
            )
    return torch.nn.Sequential(*front, affine.layer())


def _relative_layer(aggregator, metric, params, post):
    """Return one metric's relative space, but for a StandardScaler behind it."""
    post = None if type(post) is StandardScaler else in_torch("post", aggregator.post)
    return nn.RelativeLayer(
        # prepared in the dtype of the anchors, whose rounding decides on their rank
        torch.as_tensor(aggregator.anchors_),
        in_torch("metrics", metric, METRICS.get(metric.name) is metric).name,
        metric_params=params,
        pre=in_torch("pre", aggregator.pre),
        post=post,
    ).to(_DTYPE)


def in_torch(name, option, known=False):
    """Return an option that torch modules have, or refuse one without counterpart.

    Parameters
    ----------
    name : str
        Of the parameter, for the error.
    option : object
        Its value.
    known : bool, default=False
        Whether there is a counterpart to what is no name.

    Returns
    -------
    object
        `option`.

    Raises
    ------
    TypeError
        If there is none.
    """
    if known or option is None or isinstance(option, str):
        return option
    raise TypeError(
        f"to_torch takes {name} by name alone, as these have torch modules; got "
        f"{option!r}"
    )


class _Affine:
    """Affine maps one after another, as one: ``X @ coef.T + intercept``."""

    def __init__(self):
        self.coef, self.intercept = None, 0.0

    def multiply(self, coef, intercept):
        """Apply a matrix of shape (n_features_out, n_features), and add an offset."""
        coef = np.asarray(coef, dtype=np.float64)
        self.intercept = coef @ np.broadcast_to(self.intercept, coef.shape[1])
        self.intercept = self.intercept + intercept
        self.coef = coef if self.coef is None else coef @ self.coef

    def scale(self, scaler):
        """Apply a fitted StandardScaler."""
        factors = np.ones(scaler.n_features_in_)
        if scaler.with_std:
            factors /= scaler.scale_
        means = scaler.mean_ if scaler.with_mean else 0.0
        self.multiply(np.diag(factors), -means * factors)

    def layer(self):
        """Return the map as a torch module."""
        layer = torch.nn.Linear(*self.coef.shape[::-1], dtype=_DTYPE)
        with torch.no_grad():
            layer.weight.copy_(_tensor(self.coef))
            layer.bias.copy_(_tensor(self.intercept))
        return layer


def _tensor(array):
    return torch.tensor(np.asarray(array, dtype=np.float64))


def _flat(estimator):
    """Return the steps of nested pipelines, those that do something."""
    if isinstance(estimator, Pipeline):
        steps = [step for _, step in estimator.steps]
        return [part for step in steps for part in _flat(step)]
    if isinstance(estimator, FunctionTransformer) and estimator.func is None:
        return []
    return [] if estimator in (None, "passthrough") else [estimator]


def _is_linear(head):
    """Whether what a head gives is linear, or the softmax of what is."""
    kinds = {"predict_proba": _CLASSIFIERS, "predict": _REGRESSORS}
    method = "predict_proba" if hasattr(head, "classes_") else "predict"
    own = getattr(type(head), method, None)
    known = [getattr(kind, method) for kind in kinds[method]]
    return hasattr(head, "coef_") and own in known


def _coefficients(head):
    """Return a linear head's coefficients and intercept, of each class or target."""
    coef = np.atleast_2d(head.coef_)
    intercept = np.broadcast_to(head.intercept_, len(coef))
    if hasattr(head, "classes_") and len(coef) == 1:  # whose softmax is the sigmoid
        return np.vstack([-coef, coef]) / 2, np.append(-intercept, intercept) / 2
    return coef, intercept


# --- ONNX ---------------------------------------------------------------------------


def voting_onnx(model):
    """Return a fitted voting model as ONNX, from rows to probabilities or targets.

    Parameters
    ----------
    model : InvariantVotingClassifier or InvariantVotingRegressor
        Fitted.

    Returns
    -------
    onnx.ModelProto
        With rows in the dtype of the anchors, or float64 where they are no floats.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    TypeError
        If a member of weight > 0 has no counterpart.
    """
    module, name = voting_module(model), "targets"
    if hasattr(model, "classes_"):
        module = torch.nn.Sequential(module, torch.nn.Softmax(dim=1))
        name = "probabilities"
    dtype = "float32" if model.anchors_.dtype == np.float32 else "float64"
    width = model.n_features_in_
    return to_onnx_model(module, width, dtype, name, onnx_properties(model))


def onnx_properties(model):
    """Return what an ONNX file tells besides the network.

    Parameters
    ----------
    model : fitted estimator
        A voting model or a head.

    Returns
    -------
    dict of str to str
        "fingerprint" of the anchors, and of a classifier "classes" as JSON.
    """
    properties = {"fingerprint": fingerprint(model)}
    if hasattr(model, "classes_"):
        properties["classes"] = json.dumps(model.classes_.tolist())
    return properties


def to_onnx_model(module, n_features, dtype, output_name, properties):
    """Export a torch module from rows to outputs, for any number of rows.

    Parameters
    ----------
    module : torch.nn.Module
        It takes a tensor of shape (n_samples, n_features).
    n_features : int
        Width of the rows.
    dtype : str or numpy dtype
        Of the rows: float32 or float64.
    output_name : str
        Name of the output; that of the input is "X".
    properties : dict of str to str
        The metadata.

    Returns
    -------
    onnx.ModelProto
        The model.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "to_onnx needs onnx and onnxscript: pip install 'skinvariant[onnx]'"
        ) from error
    rows = torch.zeros(2, n_features, dtype=getattr(torch, np.dtype(dtype).name))
    with warnings.catch_warnings():  # of torch, about its own parts
        warnings.simplefilter("ignore", (DeprecationWarning, FutureWarning))
        program = torch.onnx.export(
            module.cpu().eval(),
            (rows,),
            dynamo=True,
            input_names=["X"],
            output_names=[output_name],
            dynamic_shapes=({0: torch.export.Dim("n_samples")},),
            verbose=False,
        )
    model = program.model_proto
    onnx.helper.set_model_props(model, properties)
    return model
