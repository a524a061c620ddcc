"""InvariantClassifier and InvariantRegressor: heads that learn their aggregation.

They need ``pip install 'skinvariant[torch]'``.
"""

import contextlib
import copy
import warnings
from numbers import Integral, Real

import numpy as np
from scipy.sparse import issparse
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.utils import check_array, check_random_state, gen_batches, get_tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from skinvariant import nn
from skinvariant._callbacks import CallbackSupportMixin, telling, with_callbacks
from skinvariant._export import in_torch, onnx_properties, to_onnx_model
from skinvariant._validation import check_choice, check_number
from skinvariant.anchors import choose_anchors
from skinvariant.comparison import space_agreement
from skinvariant.metrics import METRICS
from skinvariant.relative import InvariantAggregator

try:
    import torch
    from skorch import NeuralNet
    from skorch.callbacks import Callback, EarlyStopping
    from skorch.helper import predefined_split
except ImportError as error:
    raise ImportError(
        "skinvariant.heads needs torch and skorch: pip install 'skinvariant[torch]'"
    ) from error

__all__ = ["InvariantClassifier", "InvariantRegressor"]

# of a relative space that agrees to the last digit: more is not told apart
_FLOOR = 1e-3
_PARTS = ("aggregation", "all", "head")


# --- devices and random numbers ---------------------------------------------------


def _available(kind):
    """Whether this machine has a kind of device."""
    if kind == "cuda":
        return torch.cuda.is_available()
    return torch.backends.mps.is_available() if kind == "mps" else kind == "cpu"


def _device(option):
    """Return the torch device for the parameter `device`."""
    message = (
        "device must be 'cpu', 'cuda' (or 'cuda:1', ...), 'mps' or 'auto'; got "
        f"{option!r}"
    )
    if not isinstance(option, str):
        raise TypeError(message)
    if option == "auto":
        return torch.device(next(filter(_available, ("cuda", "mps", "cpu"))))
    kind, _, number = option.partition(":")
    known = kind == "cuda" or (kind in ("cpu", "mps") and not number)
    if not known or (":" in option and not number.isdecimal()):
        raise ValueError(message)
    if not _available(kind):
        raise ValueError(
            f"device={option!r} is not available here: use 'auto' or 'cpu'"
        )
    return torch.device(option)


@contextlib.contextmanager
def _seeded(seed, device):
    """Draw torch's random numbers from a seed, and leave its generators as they were.

    The layers of torch know no other generator than the global ones.
    """
    index = device.index or 0
    with torch.random.fork_rng([index] if device.type == "cuda" else []):
        before = torch.mps.get_rng_state() if device.type == "mps" else None
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        try:
            yield
        finally:
            if before is not None:
                torch.mps.set_rng_state(before)


# --- skorch: batches, loss and score ----------------------------------------------


class _Rows(torch.utils.data.Dataset):
    """Relative spaces, or what projects them batch by batch, with targets and weights.

    Parameters
    ----------
    project : callable
        Row indices to a tensor of shape (n, n_spaces, n_anchors).
    targets, weights : Tensor
        One row for each sample.
    """

    def __init__(self, project, targets, weights):
        self.project = project
        self.targets = targets
        self.weights = weights

    def __len__(self):
        return len(self.targets)

    def __getitem__(self, rows):
        return self.project(rows), (self.targets[rows], self.weights[rows])


class _Batches:
    """Take batches of rows at once, where a DataLoader goes one by one."""

    def __init__(self, dataset, batch_size, shuffle=False):
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle = shuffle

    def __iter__(self):
        n_rows = len(self.dataset)
        order = torch.randperm(n_rows) if self.shuffle else torch.arange(n_rows)
        for rows in order.to(self.dataset.targets.device).split(self.batch_size):
            yield self.dataset[rows]


class _WeightedLoss(torch.nn.Module):
    """Mean over the rows of weight times loss."""

    def __init__(self, loss):
        super().__init__()
        self.loss = loss

    def forward(self, outputs, targets):
        """Return the weighted loss of a batch."""
        targets, weights = targets
        losses = self.loss(outputs, targets)
        if losses.ndim > 1:
            losses = losses.mean(dim=1)
        return (weights * losses).mean()


class _Net(NeuralNet):
    """A NeuralNet whose step does what this network needs, and no more.

    skorch's own step sets every module to training anew and tells every callback about
    gradients, which in a small network takes as long as the gradients do.
    """

    def train_step(self, batch, **fit_params):
        """Update the weights by one batch."""
        spaces, targets = batch
        if not self.module_.training:
            self.module_.train()
        self.optimizer_.zero_grad()
        outputs = self.module_(spaces)
        loss = self.criterion_(outputs, targets)
        loss.backward()
        self.optimizer_.step()
        return {"loss": loss, "y_pred": outputs}


class _ValidScore(Callback):
    """Score the validation rows, from the predictions that skorch makes anyway."""

    def __init__(self, score):
        self.score = score

    def on_epoch_begin(self, net, dataset_valid=None, **kwargs):
        """Forget the last epoch."""
        self._seen = []

    def on_batch_end(self, net, batch=None, training=False, y_pred=None, **kwargs):
        """Keep the predictions of a batch."""
        if not training:
            self._seen.append((y_pred, *batch[1]))

    def on_epoch_end(self, net, dataset_valid=None, **kwargs):
        """Write the score down."""
        if self._seen:
            columns = [torch.cat(column) for column in zip(*self._seen, strict=True)]
            net.history.record("valid_score", float(self.score(*columns)))
            self._seen = []


class _Epochs(Callback):
    """Tell the callbacks of scikit-learn of each epoch, and stop when one says so.

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        Of the fit, as it has begun.
    head : estimator
        What is fitted.
    given : dict of str to object
        The `X`, `y` and `metadata` that it is fitted on.
    """

    def __init__(self, context, head, given):
        self.context = context
        self.given = {"estimator": head, **given}
        self.stopped = False

    def on_epoch_begin(self, net, **kwargs):
        """Begin a task."""
        self._task = self.context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(**self.given)

    def on_epoch_end(self, net, **kwargs):
        """End it; skorch stops by an interrupt."""
        # a copy of the head, when one is asked for, is fitted as far as it is
        as_it_is = {"reconstruction_attributes": dict}
        if self._task.call_on_fit_task_end(**self.given, **as_it_is):
            self.stopped = True
            raise KeyboardInterrupt


# --- the estimators ----------------------------------------------------------------


class _InvariantHead(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """What both heads share.

    Subclasses say what targets look like (`_check_targets`, `_encode`), and give
    `_loss` and `_score`.
    """

    _doc_link_module = "skinvariant"
    _doc_link_template = (
        "https://skinvariant.readthedocs.io/en/stable/generated/"
        "skinvariant.heads.{estimator_name}.html"
    )

    def __init__(
        self,
        n_anchors=300,
        *,
        metrics=("cosine", "euclidean", "manhattan", "chebyshev"),
        metric_params=None,
        anchors="random",
        pre=None,
        post="standardize",
        aggregation="mlp_sum",
        hidden_layer_sizes=(),
        dropout=0.0,
        space_dropout=0.5,
        noise=0.1,
        reweight=1.0,
        max_epochs=20,
        batch_size="auto",
        lr=3e-3,
        weight_decay=0.01,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        device="cpu",
        random_state=None,
        verbose=0,
    ):
        self.n_anchors = n_anchors
        self.metrics = metrics
        self.metric_params = metric_params
        self.anchors = anchors
        self.pre = pre
        self.post = post
        self.aggregation = aggregation
        self.hidden_layer_sizes = hidden_layer_sizes
        self.dropout = dropout
        self.space_dropout = space_dropout
        self.noise = noise
        self.reweight = reweight
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.weight_decay = weight_decay
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @with_callbacks
    def fit(self, X, y, sample_weight=None):
        """Choose anchors, project the rows, and train aggregation and head.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            The space of the head.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Class labels of any kind, or targets; the latter may be several.
        sample_weight : array-like of shape (n_samples,), default=None
            Numbers >= 0, not all 0, by which the loss of a row counts.  Rows of weight
            0 are not trained on, and anchors only if given as indices.  None: all 1.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the input is not as documented.
        """
        settings = self._check_params()
        X, y, given_weights = self._validate(X, y, sample_weight)
        self._fit_targets(y, given_weights)
        seed = self._start(X, y, given_weights, settings)
        weights = given_weights * self._class_weights(y)
        parts = [np.flatnonzero(weights)]
        if self.early_stopping:
            parts = self._split(parts[0], y, seed)
        train, *valid = (self._rows(X, y, weights, part) for part in parts)
        given = {"X": X, "y": y}
        if sample_weight is not None:
            given["metadata"] = {"sample_weight": given_weights}
        with telling(self, max_subtasks=self.max_epochs, **given) as context:
            epochs = None if context is None else _Epochs(context, self, given)
            self._train(train, *valid, epochs=self.max_epochs, seed=seed, told=epochs)
        return self

    def _partial_fit(self, X, y, sample_weight, classes=None):
        settings, first = self._check_params(), not hasattr(self, "net_")
        self._check_partial(first, classes)
        X, y, weights = self._validate(X, y, sample_weight, reset=first)
        if first:
            self._fit_targets(y, weights, classes)
            self._start(X, y, weights, settings)
        else:
            self._check_known(y, classes)
        weights = weights * self._class_weights(y)
        rows = self._rows(X, y, weights)
        self._train(rows, epochs=1, seed=self._seed + len(self.history_) + 1)
        return self

    def _check_partial(self, first, classes):
        """Refuse what `partial_fit` cannot do with a part of the rows."""
        if self.early_stopping:
            raise ValueError(
                "partial_fit knows no validation rows: set early_stopping=False; got "
                f"{self.early_stopping!r}"
            )

    def fine_tune(self, X, y, part="aggregation", *, sample_weight=None):
        """Train a part of the fitted network on rows of its present space.

        *Subspace selection* [1]_: after `rebase`, a few labelled rows of the new space
        tell which of the invariances matter there, while the rest stays as it is.
        With `aggregation="attention"`, ``part="aggregation"`` trains the query, key and
        value weights alone.  Learning rate, number of epochs and so on are those of
        this estimator: ``head.set_params(max_epochs=5).fine_tune(X, y)``.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space that `anchors_` are from.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their labels, of those in `classes_`, or targets.
        part : {"aggregation", "head", "all"}, default="aggregation"
            What is trained.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        object
            A new fitted estimator.  This one is not changed.

        Raises
        ------
        ValueError, TypeError
            If `part` has nothing to train, or the input is not as documented.

        References
        ----------
        .. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances
           to Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.
        """
        check_is_fitted(self)
        check_choice("part", part, dict.fromkeys(_PARTS), or_else="nothing else")
        self._check_params()
        new = copy.copy(self)
        X, y, weights = new._validate(X, y, sample_weight, reset=False)
        new._check_known(y)
        weights = weights * new._class_weights(y)
        new.net_.initialize_optimizer()  # which forgets its moments
        network, new.history_ = new.net_.module_, []
        for name, weight in network.named_parameters():
            weight.requires_grad_(part in ("all", name.split(".")[0]))
        if not any(weight.requires_grad for weight in network.parameters()):
            raise ValueError(
                f"part={part!r} has nothing to train with aggregation="
                f"{self._network['aggregation']!r}: use 'head'"
            )
        new._train(new._rows(X, y, weights), epochs=self.max_epochs, seed=self._seed)
        network.requires_grad_(True)
        return new

    def transform(self, X):
        """Return the aggregated space of rows, what the head is trained on.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            The aggregated space, of as many columns as anchors; with "concat", as many
            for each metric.  In float32 for float32 input and else in float64.

        Raises
        ------
        ValueError, TypeError
            If the input is not like the fitted one.
        """
        return self._forward(X, lambda network, spaces: network.aggregation(spaces))

    def rebase(self, anchors):
        """Put another space's parallel anchors under this fitted head.

        Parameters
        ----------
        anchors : {array-like, CSR matrix} of shape (n_anchors, n_features_new)
            The same samples as `anchors_`, in the same order, as the other encoder
            sees them.  Any width.

        Returns
        -------
        object
            A new fitted head, with a network of its own of the same weights.

        Raises
        ------
        ValueError
            If the number of anchors differs.
        """
        check_is_fitted(self)
        new = copy.copy(self)
        anchors = validate_data(
            new, _plain(anchors), accept_sparse="csr", dtype="numeric", reset=True
        )
        new.aggregator_ = self.aggregator_.rebase(anchors)
        new._set_agreement()
        return new

    def to_torch(self):
        """Return the whole fitted head, from rows to outputs, as one torch module.

        To be exported, or trained on together with an encoder.

        Returns
        -------
        torch.nn.Sequential
            A `skinvariant.nn.ProductLayer` with the anchors, and a copy of the network,
            in evaluation mode.  Outputs are logits in the order of `classes_`, or
            targets in their own units.

        Raises
        ------
        TypeError
            If a metric, `pre` or `post` has no torch counterpart.
        """
        check_is_fitted(self)
        network = copy.deepcopy(self.net_.module_)
        self._set_units(network.head[-1])
        dtype = getattr(torch, self._network["dtype"])
        anchors = self.anchors_.toarray() if issparse(self.anchors_) else self.anchors_
        anchors = torch.as_tensor(anchors, dtype=dtype, device=self.net_.device)
        layers = [
            nn.RelativeLayer(
                anchors,
                in_torch("metrics", metric, METRICS.get(metric.name) is metric).name,
                metric_params=params,
                pre=in_torch("pre", self.aggregator_.pre),
                post=in_torch("post", self.aggregator_.post),
            )
            for metric, params in self.aggregator_._metrics
        ]
        return torch.nn.Sequential(nn.ProductLayer(layers), network).eval()

    def to_onnx(self):
        """Return the whole fitted head, from rows to outputs, as an ONNX model.

        It needs ``pip install 'skinvariant[onnx]'``, and gives the outputs of this
        head in any ONNX runtime, without Python, scikit-learn or torch.

        Returns
        -------
        onnx.ModelProto
            To be written by ``onnx.save``.  Its input "X" takes rows of the space that
            the anchors are from, as many as there are, in float32 if `X` was at `fit`
            and else in float64.  The output is "probabilities", in the order of
            `classes_`, or "targets" in their own units, one column for each.
            ``metadata_props`` holds "classes" as JSON, and the "fingerprint" of the
            anchors.

        Raises
        ------
        ImportError
            If onnx or onnxscript is not installed.
        TypeError
            If a metric, `pre` or `post` has no torch counterpart.

        See Also
        --------
        skinvariant.persistence.fingerprint : What tells anchors from others.

        Notes
        -----
        ONNX knows no pairwise distances: the differences of all rows and anchors are
        held at once, 4 or 8 bytes for each row, anchor and feature.  Serve in batches.
        """
        return to_onnx_model(
            torch.nn.Sequential(self.to_torch(), *self._output),
            self.n_features_in_,
            self._network["dtype"],
            self._output_name,
            onnx_properties(self),
        )

    def _set_units(self, output_layer):
        """Make the last layer give targets in their own units; logits have none."""

    def _set_agreement(self):
        """Compare the relative spaces of the present anchors with those at fit."""
        with warnings.catch_warnings():  # of undefined rows transform tells
            warnings.filterwarnings("ignore", ".* is undefined for .* rows")
            own, new = (
                _by_metric(aggregator, aggregator.anchors_)
                for aggregator in (self._own_aggregator, self.aggregator_)
            )
        self._agreement = [
            space_agreement(own[:, place], new[:, place])
            for place in range(own.shape[1])
        ]
        squares = np.square(self._agreement)
        factors = (squares / (1 - squares + _FLOOR)) ** self.reweight
        factors = factors / factors.mean() if factors.any() else np.ones(len(factors))
        buffer = self.net_.module_.aggregation.factors
        buffer.copy_(torch.as_tensor(factors, dtype=buffer.dtype))

    @property
    def anchors_(self):
        """The anchors, an array of shape (n_anchors, n_features)."""
        check_is_fitted(self)
        return self.aggregator_.anchors_

    @property
    def anchor_indices_(self):
        """Their rows in the fitted `X`."""
        check_is_fitted(self)
        return self.aggregator_.anchor_indices_

    @property
    def n_samples_fit_(self):
        """Number of rows of the fitted `X`, or of the first `partial_fit`."""
        check_is_fitted(self)
        return self.aggregator_.n_samples_fit_

    @property
    def invariances_(self):
        """Classes of transformations that leave predictions unchanged."""
        check_is_fitted(self)
        return self.aggregator_.invariances_

    @property
    def agreement_(self):
        """How well each metric's relative space is kept: a dict of metric to [0, 1].

        After `rebase`; 1 before.  See `skinvariant.comparison.space_agreement`.
        """
        check_is_fitted(self)
        return dict(zip(self._names(), self._agreement, strict=True))

    @property
    def space_weights_(self):
        """How much each metric counts: a dict of metric to weight, of sum 1.

        Of "weighted" the learned weights; of "attention" the attention that each space
        gets, in the mean over tokens and the rows it was last trained on.  After
        `rebase`, times the factors that `reweight` gives.
        """
        check_is_fitted(self)
        if self._space_weights is None:
            raise AttributeError(
                "space_weights_ exists for aggregation='weighted' and 'attention'; got "
                f"{self._network['aggregation']!r}"
            )
        factors = _array(self.net_.module_.aggregation.factors)
        weights = self._space_weights * factors / (self._space_weights @ factors)
        return dict(zip(self._names(), weights.tolist(), strict=True))

    def _names(self):
        return [metric.name for metric, _ in self.aggregator_._metrics]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        inner = get_tags(self._aggregator())
        tags.input_tags.sparse = inner.input_tags.sparse
        return tags

    def __getstate__(self):
        """Hold the network as plain arrays, which know no device and run no code."""
        state = super().__getstate__()
        if "net_" not in state:
            return state
        state = {name: value for name, value in state.items() if name != "net_"}
        state["history_"] = list(self.history_)  # a copy writes its own
        state["_weights"] = self._arrays()
        moments = self.net_.optimizer_.state_dict()["state"]
        state["_moments"] = {
            str(place): {name: _array(value) for name, value in of_one.items()}
            for place, of_one in moments.items()
        }
        return state

    def __setstate__(self, state):
        state = dict(state)
        arrays, moments = state.pop("_weights", None), state.pop("_moments", {})
        super().__setstate__(state)
        if arrays is not None:
            self._build(arrays, moments)

    # --- what fit is made of --------------------------------------------------------

    def _aggregator(self):
        """Return what projects the rows, unfitted."""
        return InvariantAggregator(
            self.n_anchors,
            metrics=self.metrics,
            metric_params=self.metric_params,
            anchors=self.anchors,
            pre=self.pre,
            post=self.post,
            random_state=self.random_state,
        ).set_output(transform="default")

    def _check_params(self):
        """Check what is not the aggregator's to check; return the network's shape."""
        check_choice(
            "aggregation", self.aggregation, nn.AGGREGATIONS, or_else="no other"
        )
        sizes = self.hidden_layer_sizes
        sizes = [sizes] if not np.iterable(sizes) or isinstance(sizes, str) else sizes
        sizes = [check_number("hidden_layer_sizes", s, Integral, 1) for s in sizes]
        for name in ("dropout", "space_dropout"):
            if check_number(name, getattr(self, name), Real, 0, 1) == 1:
                raise ValueError(f"{name} must be below 1, or nothing is left; got 1")
        for name in ("max_epochs", "n_iter_no_change"):
            check_number(name, getattr(self, name), Integral, 1)
        if isinstance(self.batch_size, str):
            check_choice("batch_size", self.batch_size, {"auto": 0}, or_else="a number")
        else:
            check_number("batch_size", self.batch_size, Integral, 1)
        for name in ("lr", "noise", "reweight", "weight_decay"):
            check_number(name, getattr(self, name), Real, 0)
        part = check_number("validation_fraction", self.validation_fraction, Real, 0, 1)
        if part in (0, 1):
            raise ValueError(f"validation_fraction must be in (0, 1); got {part!r}")
        _device(self.device)
        return {
            "aggregation": self.aggregation,
            "hidden_layer_sizes": [int(size) for size in sizes],
            "dropout": float(self.dropout),
            "space_dropout": float(self.space_dropout),
            "noise": float(self.noise),
        }

    def _validate(self, X, y, sample_weight, *, reset=True):
        """Validate rows, targets and weights, all in the memory of the CPU."""
        X, y = validate_data(
            self,
            _plain(X),
            _plain(y),
            accept_sparse="csr",
            dtype="numeric",
            multi_output=self._multi_output,
            y_numeric=self._multi_output,
            reset=reset,
        )
        if sample_weight is None:
            return X, y, np.ones(len(y))
        weights = check_array(
            _plain(sample_weight),
            ensure_2d=False,
            dtype=np.float64,
            input_name="sample_weight",
        )
        if weights.shape != (len(y),):
            raise ValueError(
                f"sample_weight must be of shape ({len(y)},), one number for each row; "
                f"got {weights.shape}"
            )
        if weights.min() < 0 or weights.sum() == 0:
            raise ValueError(
                "sample_weight must be numbers >= 0, not all of them zero; got "
                f"{weights.min()} to {weights.max()}"
            )
        return X, y, weights

    def _start(self, X, y, weights, settings):
        """Fit what projects the rows, and build the network; return its seed."""
        self.aggregator_ = self._aggregator().set_params(
            anchors=self._drawn_anchors(X, y, weights)
        )
        self.aggregator_.fit(X, y)
        widths = self.aggregator_._widths
        n_spaces, width = len(widths), widths[0]
        if len(set(widths)) > 1 or width < 2:
            raise ValueError(
                "a head needs at least 2 anchors, and a post that gives equally many "
                f"columns for each metric; got {widths} of n_samples={X.shape[0]}"
            )
        random_state = check_random_state(self.random_state)
        self._seed = int(random_state.randint(np.iinfo(np.int32).max))
        double = X.dtype != np.float32 and _device(self.device).type != "mps"
        self._network = settings | {
            "dtype": "float64" if double else "float32",
            "n_anchors": width,
            "n_outputs": self._n_outputs,
            "n_spaces": n_spaces,
        }
        self._n_features_out = width * (n_spaces if self.aggregation == "concat" else 1)
        self.history_, self._space_weights = [], None
        self._own_aggregator, self._agreement = self.aggregator_, [1.0] * n_spaces
        self._build()
        return self._seed

    def _drawn_anchors(self, X, y, weights):
        """Return `anchors`; as indices, where rows of weight 0 must be left out."""
        kept, anchors = np.flatnonzero(weights), self.anchors
        drawn = isinstance(anchors, str) or callable(anchors)
        if len(kept) == len(weights) or not drawn:
            return anchors
        how = (self.n_anchors, self.random_state)
        return kept[choose_anchors(anchors, X[kept], y[kept], *how)]

    def _build(self, arrays=None, moments=None):
        """Make `net_` of the fitted shape, with given weights or new ones."""
        device, shape = self._device_or_cpu(), self._network
        with _seeded(self._seed, device):
            network = _network(**shape)
        if arrays is not None:
            network.load_state_dict(_tensors(arrays))
        self.net_ = _Net(
            network,
            criterion=_WeightedLoss(self._loss),
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=self.weight_decay,
            optimizer__fused=device.type in ("cpu", "cuda"),
            optimizer__param_groups=[("aggregation.logits", self._logits_group())],
            lr=self.lr,
            iterator_train=_Batches,
            iterator_train__shuffle=True,
            iterator_valid=_Batches,
            train_split=None,
            callbacks=[("valid_score", _ValidScore(self._score))],
            device=str(device),
            verbose=self.verbose,
        ).initialize()
        if moments:
            _restore(self.net_.optimizer_, moments)

    def _logits_group(self):
        """Let a few numbers under a softmax move faster than the layers."""
        return {"lr": 30 * self.lr, "weight_decay": 0.0}

    def _arrays(self):
        """Return the weights of the network as arrays by name."""
        weights = self.net_.module_.state_dict()
        return {name: _array(value) for name, value in weights.items()}

    def _device_or_cpu(self):
        """Return the device asked for, or the CPU where a loaded head finds none."""
        try:
            return _device(self.device)
        except ValueError as error:
            warnings.warn(f"{error}; the CPU is used", UserWarning, stacklevel=2)
            return torch.device("cpu")

    def _spaces(self, X):
        """Relative spaces of some rows, larger meaning closer, where the network is."""
        spaces = _by_metric(self.aggregator_, X)
        dtype = getattr(torch, self._network["dtype"])
        return torch.from_numpy(spaces).to(dtype).to(self.net_.device)

    def _rows(self, X, y, weights, part=None):
        """Make a data set of rows, projected once where that fits into memory."""
        part = np.flatnonzero(weights) if part is None else part
        if len(part) == 0:
            raise ValueError("sample_weight times class_weight is 0 for every row")
        X, y, weights = X[part], y[part], weights[part]
        on = {"device": self.net_.device}
        dtype = getattr(torch, self._network["dtype"])
        weights = torch.as_tensor(weights / weights.mean(), dtype=dtype, **on)
        targets = torch.as_tensor(self._encode(y), **on)
        bytes_per_row = self._network["n_spaces"] * self._network["n_anchors"] * 8
        if len(y) * bytes_per_row <= get_config()["working_memory"] * 2**20:
            project = self._spaces(X).__getitem__
        else:
            project = lambda rows: self._spaces(X[rows.cpu().numpy()])  # noqa: E731
        return _Rows(project, targets, weights)

    def _train(self, rows, valid=None, *, epochs, seed, told=None):
        """Train for some epochs, and note what happened in each."""
        net, first = self.net_, len(self.net_.history)
        auto = min(max(len(rows) // 20, 4), 128)
        net.batch_size = auto if self.batch_size == "auto" else self.batch_size
        callbacks = net.callbacks_
        if told is not None:
            net.callbacks_ = [*net.callbacks_, ("epochs", told)]
        if valid is not None:
            stop = EarlyStopping(patience=self.n_iter_no_change, load_best=True)
            net.callbacks_ = [*net.callbacks_, ("early_stopping", stop.initialize())]
            net.set_params(train_split=predefined_split(valid))
        with _seeded(seed, torch.device(net.device)):
            net.notify("on_train_begin", X=None, y=None)
            try:
                net.fit_loop(rows, epochs=epochs)
            except KeyboardInterrupt:  # how skorch stops early; or the user does
                early = valid is not None and stop.misses_ >= stop.patience
                if not (early or (told is not None and told.stopped)):
                    raise
            net.notify("on_train_end", X=None, y=None)
        net.callbacks_ = callbacks
        net.set_params(train_split=None)  # which holds rows
        for record in net.history[first:]:
            self.history_.append(_summary(record, epoch=len(self.history_) + 1))
        if not np.isfinite(self.history_[-1]["train_loss"]):
            raise ValueError(
                f"the training diverged: choose a smaller lr; got lr={self.lr!r}"
            )
        self._set_space_weights(rows)

    @torch.no_grad()
    def _set_space_weights(self, rows):
        """Store how much each metric counts, where the aggregation tells."""
        aggregation = self.net_.module_.aggregation
        if hasattr(aggregation, "space_weights"):
            total = sum(
                aggregation.space_weights(spaces).sum(dim=0)
                for spaces, _ in _Batches(rows, self._batch_rows())
            )
            self._space_weights = _array(total / len(rows))

    def _batch_rows(self):
        """How many rows go through the network at once, a matter of memory alone."""
        return max(1, 2**22 // (self._network["n_spaces"] * self._network["n_anchors"]))

    def _forward(self, X, function):
        """Apply a function of the network and relative spaces to all rows."""
        check_is_fitted(self)
        X = validate_data(
            self, _plain(X), accept_sparse="csr", dtype="numeric", reset=False
        )
        network = self.net_.module_.eval()
        with torch.inference_mode():
            parts = [
                function(network, self._spaces(X[rows])).numpy(force=True)
                for rows in gen_batches(X.shape[0], self._batch_rows())
            ]
        dtype = X.dtype if X.dtype in (np.float32, np.float64) else np.float64
        return np.concatenate(parts).astype(dtype, copy=False)


def _by_metric(aggregator, X):
    """Return relative spaces, larger closer: (n_samples, n_spaces, n_anchors)."""
    values = aggregator.transform(X)
    closer = [metric.larger_is_closer for metric, _ in aggregator._metrics]
    signs = np.where(closer, 1, -1).astype(values.dtype)
    return values.reshape(len(values), len(signs), -1) * signs[:, None]


def _network(
    aggregation,
    hidden_layer_sizes,
    dropout,
    space_dropout,
    noise,
    dtype,
    n_anchors,
    n_outputs,
    n_spaces,
):
    """Make a network of the fitted shape."""
    joined = nn.AGGREGATIONS[aggregation](
        n_spaces, n_anchors, space_dropout=space_dropout, noise=noise
    )
    head = nn.make_head(joined.n_features_out, n_outputs, hidden_layer_sizes, dropout)
    return nn.InvariantNetwork(joined, head).to(getattr(torch, dtype))


def _plain(X):
    """Return torch tensors as arrays, anything else as it is."""
    return X.numpy(force=True) if isinstance(X, torch.Tensor) else X


def _array(tensor):
    return tensor.numpy(force=True)


def _tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


def _restore(optimizer, moments):
    """Give a new optimiser the moments of an old one, from arrays."""
    state = {int(place): _tensors(of_one) for place, of_one in moments.items()}
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _summary(record, epoch):
    """Return what `history_` holds of an epoch."""
    names = ("train_loss", "valid_loss", "valid_score")
    values = {name: float(record[name]) for name in names if name in record}
    return {"epoch": epoch, **values, "seconds": float(record["dur"])}


def _accuracy(outputs, targets, weights):
    predicted = outputs.argmax(dim=1)
    columns = (targets, predicted, weights)
    true, predicted, weights = (column.numpy(force=True) for column in columns)
    return accuracy_score(true, predicted, sample_weight=weights)


def _r2(outputs, targets, weights):
    columns = (targets, outputs, weights)
    true, predicted, weights = (column.numpy(force=True) for column in columns)
    return r2_score(true, predicted, sample_weight=weights)


class InvariantClassifier(ClassifierMixin, _InvariantHead):
    """A classifier on the product of several invariances, which learns to join them.

    Each row is compared with anchors under several metrics; the relative spaces are
    made one by a learned aggregation [1]_, and a linear layer, or some hidden ones,
    predict from it.  When the encoder changes, `rebase` (or `skinvariant.stitch`) puts
    the new anchors in place, and the head goes on as it is.

    Parameters
    ----------
    n_anchors : int, default=300
        How many anchors to choose among the fitted rows.  Where there are fewer rows,
        all of them, with a warning.
    metrics : sequence of str, Metric or callable, default=("cosine", "euclidean", \
            "manhattan", "chebyshev")
        As in `skinvariant.InvariantAggregator`.
    metric_params : dict of str to dict, default=None
        Further parameters by the metric's name: ``{"minkowski": {"p": 3}}``.
    anchors : {"random", "stratified", "kmeans", "farthest", "all"}, array-like of \
            int or callable, default="random"
        How to choose anchors, as in `skinvariant.RelativeProjector`.
    pre : {"center", "standardize", "whiten"}, transformer or None, default=None
        Applied to rows and anchors before every metric, fitted on the anchors, anew at
        `rebase`.
    post : {"layer", "l2", "standardize"}, transformer or None, default="standardize"
        Applied to the relative vectors of each metric.  "standardize" makes the column
        of each anchor comparable between spaces: it is fitted on the anchors' own
        relative vectors, anew at `rebase`.
    aggregation : {"mlp_sum", "attention", "weighted", "concat", "sum", "mean"}, \
            default="mlp_sum"
        How the relative spaces become one: `skinvariant.nn.MLPSum`, `AttentionSum`,
        `WeightedSum`, `Concat`, `Sum` and `Mean`.  Distances are negated first, so
        that larger means closer in all of them.
    hidden_layer_sizes : sequence of int, default=()
        Widths of hidden layers, with ReLU, between aggregation and output.
    dropout : float in [0, 1), default=0.0
        Probability with which a value before each of the layers of the head is dropped
        in training.
    space_dropout : float in [0, 1), default=0.5
        Probability with which a whole relative space is left out of a row in training;
        at least one stays.  So no metric relies on the others, and `reweight` can
        trust each of them.
    noise : float >= 0, default=0.5
        Standard deviation of the Gaussian noise that is added in training to the
        relative spaces, each normalised to standard deviation 1: another encoder will
        not see a row quite as close to each anchor.
    reweight : float >= 0, default=1.0
        At `rebase`, each relative space is weighed by this power of the signal-to-noise
        ratio of its `agreement_` c, c² / (1 - c²): a metric in which the anchors of the
        two spaces disagree counts for little, one that sees no difference for much.
        0: all count as in training.  In the space of the head it changes nothing.
    max_epochs : int, default=20
        How often training goes through all rows.
    batch_size : int or "auto", default="auto"
        Rows in a step of training.  "auto": a twentieth of all rows, but 4 to 128.
    lr : float >= 0, default=0.001
        Learning rate of AdamW; 30 times this for the numbers under the softmax of
        "weighted".
    weight_decay : float >= 0, default=1.0
        Decoupled weight decay of AdamW: each step takes ``lr * weight_decay`` of every
        weight.
    early_stopping : bool, default=False
        Whether to set rows aside and stop when their loss has not improved for
        `n_iter_no_change` epochs, with the weights of the best epoch.
    validation_fraction : float in (0, 1), default=0.1
        Part of the rows to set aside, each class its share, if `early_stopping`.
    n_iter_no_change : int, default=10
        Epochs without improvement to wait, if `early_stopping`.
    class_weight : dict, "balanced" or None, default=None
        Weights of the classes, as everywhere in scikit-learn.
    device : {"cpu", "cuda", "mps", "auto"}, default="cpu"
        Where the network is; also "cuda:1" and so on.  "auto": the first of "cuda",
        "mps" and "cpu" that this machine has.  Relative spaces are computed on the
        CPU, and all results are arrays.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of anchors, of the first weights and of the order of rows.
        The same int gives the same bits on the same machine; torch's own generators
        are left as they were.  None draws from numpy's global generator.
    verbose : int, default=0
        1 prints a line for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        The labels.
    aggregator_ : InvariantAggregator
        What projects the rows.
    anchors_ : {ndarray, CSR matrix} of shape (n_anchors, n_features)
        The anchors.
    anchor_indices_ : ndarray of shape (n_anchors,), dtype int
        Their rows in the fitted `X`.
    n_samples_fit_ : int
        Number of rows of the fitted `X`.
    net_ : skorch.NeuralNet
        The network, a `skinvariant.nn.InvariantNetwork`, and what trains it.
    history_ : list of dict
        Of each epoch "epoch", "train_loss", "seconds", and with `early_stopping`
        "valid_loss" and "valid_score", which is accuracy.
    space_weights_ : dict of str to float
        How much each metric counts, for "weighted" and "attention".
    agreement_ : dict of str to float
        How well each metric's relative space was kept at `rebase`, in [0, 1].
    invariances_ : frozenset of str
        Transformations that leave predictions unchanged, as in `InvariantAggregator`.
    n_features_in_ : int
        Width of the space.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted `X`, where it had some.

    See Also
    --------
    InvariantRegressor : The same for continuous targets.
    skinvariant.InvariantAggregator : The product without a head, and without torch.
    skinvariant.stitch : Swap the encoder under a fitted model.

    Notes
    -----
    The network has the dtype of `X`: give float32 for speed ("mps" knows no other).
    The relative spaces of all rows are computed once, if they fit into scikit-learn's
    ``working_memory`` (1 GiB by default, of 8 bytes for each row, metric and anchor);
    if not, those of each batch whenever it is due.

    A pickled head holds its weights as arrays, and is loaded on any machine: where
    `device` is missing, it runs on the CPU, with a warning.  For files from strangers
    use skops, which runs no code: the page on heads has the list of types to trust.

    References
    ----------
    .. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances to
       Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.

    Examples
    --------
    Digits, and an encoder of which nothing is known but that it sees the same things:
    here the pixels turned, scaled and moved.

    >>> import numpy as np
    >>> from scipy.stats import ortho_group
    >>> from sklearn.datasets import load_digits
    >>> from skinvariant.heads import InvariantClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.astype(np.float32)
    >>> X_new = 3 * X @ ortho_group.rvs(64, random_state=0).astype(np.float32) + 5
    >>> head = InvariantClassifier(n_anchors=200, random_state=0)
    >>> head = head.fit(X[:1200], y[:1200])
    >>> round(head.score(X[1200:], y[1200:]), 2)
    0.92
    >>> new = head.rebase(X_new[head.anchor_indices_])
    >>> round(new.score(X_new[1200:], y[1200:]), 2)
    0.91

    Euclidean distances are kept, largest differences in a coordinate are not:

    >>> {metric: round(value, 2) for metric, value in new.agreement_.items()}
    {'cosine': 1.0, 'euclidean': 1.0, 'manhattan': 0.96, 'chebyshev': 0.53}
    """

    _multi_output = False
    _loss = torch.nn.CrossEntropyLoss(reduction="none")
    _score = staticmethod(_accuracy)
    _output_name, _output = "probabilities", (torch.nn.Softmax(dim=1),)

    def __init__(
        self,
        n_anchors=300,
        *,
        metrics=("cosine", "euclidean", "manhattan", "chebyshev"),
        metric_params=None,
        anchors="random",
        pre=None,
        post="standardize",
        aggregation="mlp_sum",
        hidden_layer_sizes=(),
        dropout=0.0,
        space_dropout=0.5,
        noise=0.5,
        reweight=1.0,
        max_epochs=20,
        batch_size="auto",
        lr=1e-3,
        weight_decay=1.0,
        early_stopping=False,
        validation_fraction=0.1,
        n_iter_no_change=10,
        class_weight=None,
        device="cpu",
        random_state=None,
        verbose=0,
    ):
        super().__init__(
            n_anchors,
            metrics=metrics,
            metric_params=metric_params,
            anchors=anchors,
            pre=pre,
            post=post,
            aggregation=aggregation,
            hidden_layer_sizes=hidden_layer_sizes,
            dropout=dropout,
            space_dropout=space_dropout,
            noise=noise,
            reweight=reweight,
            max_epochs=max_epochs,
            batch_size=batch_size,
            lr=lr,
            weight_decay=weight_decay,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            n_iter_no_change=n_iter_no_change,
            device=device,
            random_state=random_state,
            verbose=verbose,
        )
        self.class_weight = class_weight

    def predict(self, X):
        """Return the most probable class of each row.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples,)
            Labels of `classes_`.

        Raises
        ------
        ValueError, TypeError
            If the input is not like the fitted one.
        """
        outputs = self._forward(X, lambda network, spaces: network(spaces))
        return self.classes_[outputs.argmax(axis=1)]

    def predict_proba(self, X):
        """Return the probability of each class.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples, n_classes)
            Probabilities in [0, 1] that sum to 1 in each row, in the order of
            `classes_`.

        Raises
        ------
        ValueError, TypeError
            If the input is not like the fitted one.
        """
        return self._forward(X, lambda network, spaces: network(spaces).softmax(dim=1))

    def partial_fit(self, X, y, classes=None, sample_weight=None):
        """Train for one epoch on some rows, on from where the last call ended.

        The first call chooses the anchors, among its own rows.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space of the head.
        y : array-like of shape (n_samples,)
            Their labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that may ever come; needed in the first call.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        InvariantClassifier
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If `classes` is missing in the first call, or differs later, or a label is
            not in it; or if the input is not as documented.
        """
        return self._partial_fit(X, y, sample_weight, classes)

    def _check_partial(self, first, classes):
        super()._check_partial(first, classes)
        if first and classes is None:
            raise ValueError(
                "partial_fit needs classes in its first call: all labels that may ever "
                "come; got None"
            )
        if isinstance(self.class_weight, str):
            raise ValueError(
                f"class_weight={self.class_weight!r} needs all rows at once: give "
                "partial_fit a dict of weights"
            )

    def _fit_targets(self, y, weights, classes=None):
        check_classification_targets(y)
        self._encoder = LabelEncoder().fit(y if classes is None else classes)
        self.classes_ = self._encoder.classes_
        self._n_outputs = len(self.classes_)

    def _encode(self, y):
        return self._encoder.transform(y)

    def _check_known(self, y, classes=None):
        if classes is not None and not np.array_equal(
            np.unique(classes), self.classes_
        ):
            raise ValueError(
                f"classes must be those of the first call, {self.classes_}; got "
                f"{np.unique(classes)}"
            )
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ValueError(
                f"y must be labels of classes_, {self.classes_}; got {unknown[:5]}"
            )

    def _class_weights(self, y):
        return compute_sample_weight(self.class_weight, y)

    def _split(self, rows, y, seed):
        size = self.validation_fraction
        return train_test_split(
            rows, test_size=size, stratify=y[rows], random_state=seed
        )


class InvariantRegressor(RegressorMixin, _InvariantHead):
    """A regressor on the product of several invariances, which learns to join them.

    Each row is compared with anchors under several metrics; the relative spaces are
    made one by a learned aggregation [1]_, and a linear layer, or some hidden ones,
    predict one target or several from it.  Targets are standardised for training, and
    predicted in their own units.

    Parameters
    ----------
    n_anchors : int, default=300
        How many anchors to choose among the fitted rows.  Where there are fewer rows,
        all of them, with a warning.
    metrics : sequence of str, Metric or callable, default=("cosine", "euclidean", \
            "manhattan", "chebyshev")
        As in `skinvariant.InvariantAggregator`.
    metric_params : dict of str to dict, default=None
        Further parameters by the metric's name: ``{"minkowski": {"p": 3}}``.
    anchors : {"random", "stratified", "kmeans", "farthest", "all"}, array-like of \
            int or callable, default="random"
        How to choose anchors, as in `skinvariant.RelativeProjector`.
    pre : {"center", "standardize", "whiten"}, transformer or None, default=None
        Applied to rows and anchors before every metric, fitted on the anchors, anew at
        `rebase`.
    post : {"layer", "l2", "standardize"}, transformer or None, default="standardize"
        Applied to the relative vectors of each metric.  "standardize" makes the column
        of each anchor comparable between spaces: it is fitted on the anchors' own
        relative vectors, anew at `rebase`.
    aggregation : {"mlp_sum", "attention", "weighted", "concat", "sum", "mean"}, \
            default="mlp_sum"
        How the relative spaces become one: `skinvariant.nn.MLPSum`, `AttentionSum`,
        `WeightedSum`, `Concat`, `Sum` and `Mean`.  Distances are negated first, so
        that larger means closer in all of them.
    hidden_layer_sizes : sequence of int, default=()
        Widths of hidden layers, with ReLU, between aggregation and output.
    dropout : float in [0, 1), default=0.0
        Probability with which a value before each of the layers of the head is dropped
        in training.
    space_dropout : float in [0, 1), default=0.5
        Probability with which a whole relative space is left out of a row in training;
        at least one stays.  So no metric relies on the others, and `reweight` can
        trust each of them.
    noise : float >= 0, default=0.1
        Standard deviation of the Gaussian noise that is added in training to the
        relative spaces, each normalised to standard deviation 1: another encoder will
        not see a row quite as close to each anchor.
    reweight : float >= 0, default=1.0
        At `rebase`, each relative space is weighed by this power of the signal-to-noise
        ratio of its `agreement_` c, c² / (1 - c²): a metric in which the anchors of the
        two spaces disagree counts for little, one that sees no difference for much.
        0: all count as in training.  In the space of the head it changes nothing.
    max_epochs : int, default=20
        How often training goes through all rows.
    batch_size : int or "auto", default="auto"
        Rows in a step of training.  "auto": a twentieth of all rows, but 4 to 128.
    lr : float >= 0, default=0.003
        Learning rate of AdamW; 30 times this for the numbers under the softmax of
        "weighted".
    weight_decay : float >= 0, default=0.01
        Decoupled weight decay of AdamW: each step takes ``lr * weight_decay`` of every
        weight.
    early_stopping : bool, default=False
        Whether to set rows aside and stop when their loss has not improved for
        `n_iter_no_change` epochs, with the weights of the best epoch.
    validation_fraction : float in (0, 1), default=0.1
        Part of the rows to set aside, if `early_stopping`.
    n_iter_no_change : int, default=10
        Epochs without improvement to wait, if `early_stopping`.
    device : {"cpu", "cuda", "mps", "auto"}, default="cpu"
        Where the network is; also "cuda:1" and so on.  "auto": the first of "cuda",
        "mps" and "cpu" that this machine has.  Relative spaces are computed on the
        CPU, and all results are arrays.
    random_state : int, RandomState instance or None, default=None
        Seed of the choice of anchors, of the first weights and of the order of rows.
        The same int gives the same bits on the same machine; torch's own generators
        are left as they were.  None draws from numpy's global generator.
    verbose : int, default=0
        1 prints a line for each epoch.

    Attributes
    ----------
    aggregator_ : InvariantAggregator
        What projects the rows.
    anchors_ : {ndarray, CSR matrix} of shape (n_anchors, n_features)
        The anchors.
    anchor_indices_ : ndarray of shape (n_anchors,), dtype int
        Their rows in the fitted `X`.
    n_samples_fit_ : int
        Number of rows of the fitted `X`.
    net_ : skorch.NeuralNet
        The network, a `skinvariant.nn.InvariantNetwork`, and what trains it.
    history_ : list of dict
        Of each epoch "epoch", "train_loss", "seconds", and with `early_stopping`
        "valid_loss" and "valid_score", which is R².
    space_weights_ : dict of str to float
        How much each metric counts, for "weighted" and "attention".
    agreement_ : dict of str to float
        How well each metric's relative space was kept at `rebase`, in [0, 1].
    invariances_ : frozenset of str
        Transformations that leave predictions unchanged, as in `InvariantAggregator`.
    n_features_in_ : int
        Width of the space.
    feature_names_in_ : ndarray of shape (`n_features_in_`,)
        Column names of the fitted `X`, where it had some.

    See Also
    --------
    InvariantClassifier : The same for class labels.
    skinvariant.InvariantAggregator : The product without a head, and without torch.
    skinvariant.stitch : Swap the encoder under a fitted model.

    Notes
    -----
    The network has the dtype of `X`: give float32 for speed ("mps" knows no other).
    The relative spaces of all rows are computed once, if they fit into scikit-learn's
    ``working_memory`` (1 GiB by default, of 8 bytes for each row, metric and anchor);
    if not, those of each batch whenever it is due.

    A pickled head holds its weights as arrays, and is loaded on any machine: where
    `device` is missing, it runs on the CPU, with a warning.  For files from strangers
    use skops, which runs no code: the page on heads has the list of types to trust.

    References
    ----------
    .. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances to
       Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.

    Examples
    --------
    The position of a point on a sphere in many dimensions, and the same for another
    encoder that turns them:

    >>> import numpy as np
    >>> from scipy.stats import ortho_group
    >>> from skinvariant.heads import InvariantRegressor
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((1000, 5)).astype(np.float32)
    >>> y = np.column_stack([X[:, 0], np.abs(X[:, 1])])
    >>> head = InvariantRegressor(100, hidden_layer_sizes=(100,), random_state=0)
    >>> head = head.fit(X[:800], y[:800])
    >>> round(head.score(X[800:], y[800:]), 2)
    0.97
    >>> X_new = X @ ortho_group.rvs(5, random_state=0).astype(np.float32)
    >>> new = head.rebase(X_new[head.anchor_indices_])
    >>> round(new.score(X_new[800:], y[800:]), 2)
    0.93
    """

    _multi_output = True
    _loss = torch.nn.MSELoss(reduction="none")
    _score = staticmethod(_r2)
    _output_name, _output = "targets", ()

    def predict(self, X):
        """Return the targets of each row.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Targets, in the units of the fitted ones.

        Raises
        ------
        ValueError, TypeError
            If the input is not like the fitted one.
        """
        outputs = self._forward(X, lambda network, spaces: network(spaces))
        targets = self._scaler.inverse_transform(outputs)
        return targets.ravel() if self._one_target else targets

    def partial_fit(self, X, y, sample_weight=None):
        """Train for one epoch on some rows, on from where the last call ended.

        The first call chooses the anchors, and the scale of the targets, from its own
        rows.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space of the head.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their targets.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        InvariantRegressor
            The estimator itself.

        Raises
        ------
        ValueError, TypeError
            If the input is not as documented.
        """
        return self._partial_fit(X, y, sample_weight)

    def _fit_targets(self, y, weights, classes=None):
        self._one_target = y.ndim == 1
        columns = y.reshape(len(y), -1)
        scaler = StandardScaler().set_output(transform="default")
        self._scaler = scaler.fit(columns, sample_weight=weights)
        self._n_outputs = columns.shape[1]

    def _encode(self, y):
        dtype = getattr(np, self._network["dtype"])
        return self._scaler.transform(y.reshape(len(y), -1)).astype(dtype)

    def _check_known(self, y, classes=None):
        n_outputs = y.reshape(len(y), -1).shape[1]
        if n_outputs != self._n_outputs:
            raise ValueError(
                f"y must be of {self._n_outputs} targets, as fitted; got {n_outputs}"
            )

    @torch.no_grad()
    def _set_units(self, output_layer):
        on = {"dtype": output_layer.bias.dtype, "device": output_layer.bias.device}
        scale, mean = (
            torch.as_tensor(values, **on)
            for values in (self._scaler.scale_, self._scaler.mean_)
        )
        output_layer.weight *= scale[:, None]
        output_layer.bias.copy_(output_layer.bias * scale + mean)

    def _class_weights(self, y):
        return 1.0

    def _split(self, rows, y, seed):
        size = self.validation_fraction
        return train_test_split(rows, test_size=size, random_state=seed)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
