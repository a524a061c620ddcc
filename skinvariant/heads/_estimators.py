"""InvariantClassifier and InvariantRegressor: estimators around a skorch net."""

import copy
import warnings
from numbers import Integral, Real

import numpy as np
import torch
from sklearn import get_config
from sklearn.base import (
    BaseEstimator,
    ClassifierMixin,
    ClassNamePrefixFeaturesOutMixin,
    RegressorMixin,
    TransformerMixin,
    is_classifier,
)
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelEncoder, StandardScaler
from sklearn.utils import check_array, check_random_state, gen_batches, get_tags
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.callbacks import Callback, EarlyStopping, EpochScoring
from skorch.helper import predefined_split

from skinvariant import nn
from skinvariant._export import head_module, onnx_model
from skinvariant._torch import own_settings
from skinvariant._validation import check_choice, check_labels, check_number
from skinvariant.anchors import choose_anchors
from skinvariant.comparison import space_agreement
from skinvariant.heads._callbacks import CallbackSupportMixin, fit_task, with_callbacks
from skinvariant.heads._documentation import with_shared_sections
from skinvariant.heads._training import (
    ClassifierNet,
    EpochTasks,
    RegressorNet,
    WeightedRows,
    seeded,
    torch_device,
)
from skinvariant.metrics._products import undefined_rows_allowed
from skinvariant.pooling import signal_to_noise
from skinvariant.relative import InvariantAggregator
from skinvariant.relative._base import given_anchors

_PARTS = ("aggregation", "all", "head")


# --- the estimators ----------------------------------------------------------------


class _InvariantHead(
    CallbackSupportMixin,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    BaseEstimator,
):
    """What both heads share.

    Subclasses define the targets (`_fit_targets`, `_encode`, `_check_known`), the
    weights of their classes (`_class_weights`), the net with its criterion
    (`_make_net`) and the score of validation rows (`_measure`).
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
        callbacks=None,
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
        self.callbacks = callbacks
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
            Finite numbers >= 0, not all 0, that weight the loss of each row; None: all
            1.  A row of weight 0 is not trained on, and is an anchor only if `anchors`
            holds its index.

        Returns
        -------
        object
            The fitted estimator itself.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the input is not as documented.
        KeyboardInterrupt
            If one is raised meanwhile, also in a callback, except for those of skorch's
            EarlyStopping.  The estimator then has a network that was trained until
            there, and `history_` lacks its epochs: fit it again.
        """
        settings = self._check_params()
        X, y, sample_weights = self._validate(X, y, sample_weight)
        self._fit_targets(y, sample_weights)
        self._start(X, y, sample_weights, settings)
        weights = self._row_weights(y, sample_weights)
        parts = [np.flatnonzero(weights)]
        if self.early_stopping:
            parts = train_test_split(
                parts[0],
                test_size=self.validation_fraction,
                stratify=y[parts[0]] if is_classifier(self) else None,
                random_state=self._seed,
            )
        train, *valid = (self._rows(X[p], y[p], weights[p]) for p in parts)
        data = {"X": X, "y": y}
        if sample_weight is not None:
            data["metadata"] = {"sample_weight": sample_weights}
        with fit_task(self, max_subtasks=self.max_epochs, **data) as context:
            tasks = []
            if context is not None:
                tasks = [("epoch_tasks", EpochTasks(context, estimator=self, **data))]
            self._train(train, *valid, epochs=self.max_epochs, tasks=tasks)
        return self

    def _partial_fit(self, X, y, sample_weight, classes=None):
        settings, first = self._check_params(), not hasattr(self, "net_")
        if self.early_stopping:
            raise ValueError(
                "early_stopping must be False for partial_fit, which sets no rows "
                f"aside; got {self.early_stopping!r}"
            )
        X, y, weights = self._validate(X, y, sample_weight, reset=first)
        if first:
            self._fit_targets(y, weights, classes)
            self._start(X, y, weights, settings)
        else:
            self._check_known(y, classes)
        rows = self._rows(X, y, self._row_weights(y, weights))
        self._train(rows, epochs=1, seed=self._seed + len(self.history_) + 1)
        return self

    @own_settings()
    def fine_tune(self, X, y, part="aggregation", *, sample_weight=None):
        """Train a part of the fitted network on rows of its present space.

        This is *subspace selection* [1]_: after `rebase`, a few labelled rows of the
        new space show which of the invariances matter there, and the rest of the
        network stays unchanged.  With `aggregation="attention"`, ``part="aggregation"``
        trains the query, key and value weights alone.  Learning rate, number of epochs
        and so on are those of this estimator:
        ``head.set_params(max_epochs=5).fine_tune(X, y)``.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space that `anchors_` are from.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Their labels, of those in `classes_`, or targets.
        part : {"aggregation", "head", "all"}, default="aggregation"
            The part to train.
        sample_weight : array-like of shape (n_samples,), default=None
            As in `fit`.

        Returns
        -------
        object
            A new fitted estimator; this one does not change.

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
        check_choice("part", part, dict.fromkeys(_PARTS))
        self._check_params()
        new = copy.copy(self)
        X, y, weights = new._validate(X, y, sample_weight, reset=False)
        new._check_known(y)
        new.net_.initialize_optimizer()  # without the moments of earlier training
        network, new.history_ = new.net_.module_, []
        for name, weight in network.named_parameters():
            weight.requires_grad_(part in ("all", name.split(".")[0]))
        if not any(weight.requires_grad for weight in network.parameters()):
            raise ValueError(
                f"part must be 'head' with aggregation={self._network['aggregation']!r}"
                f", which has no weights to train; got {part!r}"
            )
        rows = new._rows(X, y, new._row_weights(y, weights))
        new._train(rows, epochs=self.max_epochs)
        network.requires_grad_(True)
        return new

    def transform(self, X):
        """Return the aggregated space of rows, on which the head is trained.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space that the anchors are from.

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            The aggregated space, with one column for each anchor; with "concat", one
            for each anchor and metric.  float32 for float32 input, else float64.

        Raises
        ------
        ValueError, TypeError
            If the input is not like the fitted one.
        """
        return self._forward(X, lambda network, spaces: network.aggregation(spaces))

    @own_settings()
    def rebase(self, anchors, *, X=None):
        """Put another space's parallel anchors under this fitted head.

        Parameters
        ----------
        anchors : {array-like, CSR matrix} of shape (n_anchors, n_features_new)
            The same samples as `anchors_`, in the same order, encoded by the other
            encoder.  The width is free.
        X : array-like of shape (n_samples, n_features_new), default=None
            Other rows of the new space, without labels, for the metric "geodesic": see
            `skinvariant.InvariantAggregator.rebase`.

        Returns
        -------
        object
            A new fitted head, which has its own network with the same weights.

        Raises
        ------
        ValueError
            If the number of anchors differs, or `X` is missing or of another width
            where a metric needs it.
        TypeError
            If `X` is given and no metric needs it.
        """
        check_is_fitted(self)
        new = copy.copy(self)
        anchors = validate_data(
            new, _as_array(anchors), accept_sparse="csr", dtype="numeric", reset=True
        )
        X = None if X is None else _as_array(X)
        new.aggregator_ = self.aggregator_.rebase(anchors, X=X)
        with undefined_rows_allowed():
            own, other = (
                _relative_spaces(aggregator, aggregator.anchors_)
                for aggregator in (self._own_aggregator, new.aggregator_)
            )
        new._agreement = [
            space_agreement(own[:, place], other[:, place])
            for place in range(own.shape[1])
        ]
        factors = signal_to_noise(new._agreement, floor=1e-3)
        factors = (factors / factors.max()) ** self.reweight
        buffer = new.net_.module_.aggregation.factors
        buffer.copy_(torch.as_tensor(factors / factors.mean(), dtype=buffer.dtype))
        return new

    def to_torch(self):
        """Return the whole fitted head, from rows to outputs, as one torch module.

        The module can be exported, or trained together with an encoder.

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
        return head_module(self)

    def to_onnx(self):
        """Return the whole fitted head, from rows to outputs, as an ONNX model.

        It needs ``pip install 'skinvariant[onnx]'``.  The model computes the outputs of
        this head in any ONNX runtime, without Python, scikit-learn or torch.

        Returns
        -------
        onnx.ModelProto
            ``onnx.save`` writes it to a file.  Its input "X" takes any number of rows
            of the space that the anchors are from, in float32 if `X` was float32 at
            `fit`, else in float64.  Its output is "probabilities", in the order of
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
        skinvariant.persistence.fingerprint : A short text that identifies the anchors.

        Notes
        -----
        ONNX has no pairwise distances: the differences of all rows and anchors are in
        memory at once, 4 or 8 bytes for each row, anchor and feature.  Serve in
        batches.
        """
        check_is_fitted(self)
        return onnx_model(self, self._network["dtype"])

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
        """How well `rebase` kept each metric's relative space: metric to [0, 1].

        1 before any `rebase`.  See `skinvariant.comparison.space_agreement`.
        """
        check_is_fitted(self)
        return dict(zip(self._names(), self._agreement, strict=True))

    @property
    def space_weights_(self):
        """The weight of each metric: a dict of metric to weight, with sum 1.

        "weighted" learns these weights; of "attention" they are the attention to each
        space, averaged over tokens and the rows of the last training.  After `rebase`
        they include the factors of `reweight`.
        """
        check_is_fitted(self)
        if self._space_weights is None:
            raise AttributeError(
                "space_weights_ exists for aggregation='weighted' and 'attention'; got "
                f"{self._network['aggregation']!r}"
            )
        factors = self.net_.module_.aggregation.factors.numpy(force=True)
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
        """Store the network as arrays, which need no device and run no code."""
        state = super().__getstate__()
        if "net_" not in state:
            return state
        state = {name: value for name, value in state.items() if name != "net_"}
        state["history_"] = list(self.history_)  # a copy extends its own
        state["_weights"] = _arrays(self.net_.module_.state_dict())
        moments = self.net_.optimizer_.state_dict()["state"]
        state["_moments"] = {str(i): _arrays(moment) for i, moment in moments.items()}
        return state

    def __setstate__(self, state):
        state = dict(state)
        arrays, moments = state.pop("_weights", None), state.pop("_moments", {})
        super().__setstate__(state)
        if arrays is not None:
            self._build(arrays, moments)

    # --- the parts of fit -----------------------------------------------------------

    def _aggregator(self):
        """Return the unfitted aggregator."""
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
        """Check the parameters of network and training; return those of the network."""
        check_choice("aggregation", self.aggregation, nn.AGGREGATIONS)
        sizes = self.hidden_layer_sizes
        sizes = [sizes] if not np.iterable(sizes) or isinstance(sizes, str) else sizes
        sizes = [check_number("hidden_layer_sizes", s, Integral, 1) for s in sizes]
        for name in ("dropout", "space_dropout"):
            if check_number(name, getattr(self, name), Real, 0, 1) == 1:
                raise ValueError(f"{name} must be below 1; got 1")
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
        torch_device(self.device)
        callbacks = () if self.callbacks is None else self.callbacks
        callbacks = callbacks if isinstance(callbacks, (list, tuple)) else [callbacks]
        for item in callbacks:
            callback = item[-1] if isinstance(item, tuple) else item
            kind = callback if isinstance(callback, type) else type(callback)
            if callbacks is not self.callbacks or not issubclass(kind, Callback):
                raise TypeError(
                    "callbacks must be a list of skorch callbacks or of (name, "
                    "callback) pairs, and those of scikit-learn are for set_callbacks; "
                    f"got {self.callbacks!r}"
                )
        return {
            "aggregation": self.aggregation,
            "hidden_layer_sizes": [int(size) for size in sizes],
            "dropout": float(self.dropout),
            "space_dropout": float(self.space_dropout),
            "noise": float(self.noise),
        }

    def _validate(self, X, y, sample_weight, *, reset=True):
        """Return validated rows, targets and weights, as arrays."""
        if isinstance(y, list | tuple) and is_classifier(self):
            y = check_labels(y)  # before labels of several kinds become strings
        X, y = validate_data(
            self,
            _as_array(X),
            _as_array(y),
            accept_sparse="csr",
            dtype="numeric",
            multi_output=self._multi_output,
            y_numeric=self._multi_output,
            reset=reset,
        )
        if sample_weight is None:
            return X, y, np.ones(len(y))
        weights = check_array(
            _as_array(sample_weight),
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
        """Fit the aggregator and build the network."""
        anchors, rows = given_anchors(self, X), np.flatnonzero(weights)
        if len(rows) < len(weights) and (isinstance(anchors, str) or callable(anchors)):
            draw = (self.n_anchors, self.random_state)
            anchors = rows[choose_anchors(anchors, X[rows], y[rows], *draw)]
        self.aggregator_ = self._aggregator().set_params(anchors=anchors).fit(X, y)
        widths = self.aggregator_._widths
        n_spaces, width = len(widths), widths[0]
        if len(set(widths)) > 1 or width < 2:
            raise ValueError(
                "a head needs at least 2 anchors, and a post that gives equally many "
                f"columns for each metric; got {widths} of n_samples={X.shape[0]}"
            )
        random_state = check_random_state(self.random_state)
        self._seed = int(random_state.randint(np.iinfo(np.int32).max))
        double = X.dtype != np.float32 and torch_device(self.device).type != "mps"
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

    @own_settings()
    def _build(self, weights=None, moments=None):
        """Build `net_` in the fitted shape; weights and moments are stored arrays."""
        try:
            device = torch_device(self.device)
        except ValueError as error:  # for a head that was fitted on another machine
            warnings.warn(f"{error}; the CPU is used", UserWarning, stacklevel=2)
            device = torch.device("cpu")
        shape = self._network
        with seeded(self._seed, device):
            aggregation = nn.AGGREGATIONS[shape["aggregation"]](
                shape["n_spaces"],
                shape["n_anchors"],
                space_dropout=shape["space_dropout"],
                noise=shape["noise"],
                dtype=torch.float32,
            )
            head = nn.make_head(
                aggregation.n_features_out,
                shape["n_outputs"],
                shape["hidden_layer_sizes"],
                shape["dropout"],
                dtype=torch.float32,
            )
        network = nn.InvariantNetwork(aggregation, head)
        network = network.to(getattr(torch, shape["dtype"]))
        if weights is not None:
            network.load_state_dict(_tensors(weights))
        score = EpochScoring(
            self._valid_score, name="valid_score", lower_is_better=False
        )
        # the few numbers under the softmax must move faster than the layers
        logits = {"lr": 30 * self.lr, "weight_decay": 0.0}
        self.net_ = self._make_net(
            network,
            criterion__reduction="none",
            optimizer=torch.optim.AdamW,
            optimizer__weight_decay=self.weight_decay,
            optimizer__fused=device.type in ("cpu", "cuda"),
            optimizer__param_groups=[("aggregation.logits", logits)],
            lr=self.lr,
            iterator_train__shuffle=True,
            iterator_train__collate_fn=WeightedRows.collate,
            iterator_valid__collate_fn=WeightedRows.collate,
            train_split=None,
            callbacks=[("valid_score", score), *copy.deepcopy(self.callbacks or [])],
            device=str(device),
            verbose=self.verbose,
        ).initialize()
        if moments:
            state = {int(i): _tensors(moment) for i, moment in moments.items()}
            groups = self.net_.optimizer_.state_dict()["param_groups"]
            self.net_.optimizer_.load_state_dict(
                {"state": state, "param_groups": groups}
            )

    @classmethod
    def _valid_score(cls, net, rows, targets):
        """Return the score of the validation rows, weighted."""
        weights = rows.weights.numpy(force=True)
        return float(cls._measure(targets, net.predict(rows), sample_weight=weights))

    def _spaces(self, X):
        """Return relative spaces of rows as a tensor on the device of the network."""
        spaces = _relative_spaces(self.aggregator_, X)
        dtype = getattr(torch, self._network["dtype"])
        return torch.from_numpy(spaces).to(dtype).to(self.net_.device)

    def _row_weights(self, y, sample_weights):
        """Return sample weights times class weights, not all 0."""
        weights = sample_weights * self._class_weights(y)
        if not weights.any():
            raise ValueError(
                "sample_weight times class_weight must be above 0 for some rows; got 0 "
                f"for all {len(weights)}"
            )
        return weights

    @own_settings()
    def _rows(self, X, y, weights):
        """Return the rows of positive weight as a data set for skorch."""
        kept = np.flatnonzero(weights)
        X, y, weights = X[kept], y[kept], weights[kept]
        device, dtype = self.net_.device, getattr(torch, self._network["dtype"])
        weights = torch.as_tensor(weights / weights.mean(), dtype=dtype, device=device)
        targets = torch.as_tensor(self._encode(y), device=device)
        bytes_per_row = self._network["n_spaces"] * self._network["n_anchors"] * 8
        if len(y) * bytes_per_row <= get_config()["working_memory"] * 2**20:
            project = self._spaces(X).__getitem__
        else:
            project = lambda rows: self._spaces(X[rows])  # noqa: E731
        return WeightedRows(project, targets, weights)

    @own_settings()
    def _train(self, rows, valid=None, *, epochs, seed=None, tasks=()):
        """Train for some epochs, and record each in `history_`."""
        net, own, first = self.net_, self.net_.callbacks_, len(self.net_.history)
        auto = min(max(len(rows) // 20, 4), 128)
        net.set_params(
            batch_size=auto if self.batch_size == "auto" else self.batch_size,
            max_epochs=epochs,
            train_split=None if valid is None else predefined_split(valid),
        )
        stopping = []
        if valid is not None:
            stopping = EarlyStopping(patience=self.n_iter_no_change, load_best=True)
            stopping = [("early_stopping", stopping.initialize())]
        # tasks end before a callback of the user can end the training
        place = [name for name, _ in own].index("valid_score") + 1
        net.callbacks_ = [*own[:place], *tasks, *own[place:], *stopping]
        aggregation = net.module_.aggregation
        seed = self._seed if seed is None else seed
        try:
            with seeded(seed, torch.device(net.device)):
                net.partial_fit(rows)
                records = net.history[first:]
                if hasattr(aggregation, "space_weights"):
                    with torch.no_grad():
                        total = sum(
                            aggregation.space_weights(inputs["spaces"]).sum(dim=0)
                            for inputs, _ in net.get_iterator(rows)
                        )
                    self._space_weights = (total / len(rows)).numpy(force=True)
        finally:
            net.callbacks_ = own
            net.set_params(train_split=None)  # which holds rows
        for record in records:
            names = ("train_loss", "valid_loss", "valid_score")
            numbers = {name: float(record[name]) for name in names if name in record}
            epoch, seconds = len(self.history_) + 1, float(record["dur"])
            self.history_.append({"epoch": epoch, **numbers, "seconds": seconds})
        if not np.isfinite(self.history_[-1]["train_loss"]):
            raise ValueError(
                f"the training diverged: choose a smaller lr; got lr={self.lr!r}"
            )

    @own_settings()
    def _forward(self, X, function):
        """Apply a function of network and relative spaces to all rows."""
        check_is_fitted(self)
        X = validate_data(
            self, _as_array(X), accept_sparse="csr", dtype="numeric", reset=False
        )
        # outputs do not depend on the batches: their size is a matter of memory alone
        size = max(1, 2**22 // (self._network["n_spaces"] * self._network["n_anchors"]))
        network = self.net_.module_.eval()
        with torch.inference_mode():
            parts = [
                function(network, self._spaces(X[rows])).numpy(force=True)
                for rows in gen_batches(X.shape[0], size)
            ]
        dtype = X.dtype if X.dtype in (np.float32, np.float64) else np.float64
        return np.concatenate(parts).astype(dtype, copy=False)


def _relative_spaces(aggregator, X):
    """Return relative spaces, larger closer: (n_samples, n_spaces, n_anchors)."""
    values = aggregator.transform(X)
    closer = [metric.larger_is_closer for metric, _ in aggregator._metrics]
    signs = np.where(closer, 1, -1).astype(values.dtype)
    return values.reshape(len(values), len(signs), -1) * signs[:, None]


def _as_array(X):
    """Return a torch tensor as an array, and anything else unchanged."""
    return X.numpy(force=True) if isinstance(X, torch.Tensor) else X


def _arrays(tensors):
    return {name: tensor.numpy(force=True) for name, tensor in tensors.items()}


def _tensors(arrays):
    return {name: torch.tensor(array) for name, array in arrays.items()}


@with_shared_sections(
    noise="0.5",
    why_noise="The regressor's default is smaller.",
    lr="0.001",
    why_lr="The regressor's default is larger.",
    weight_decay="1.0",
    why_weight_decay="Strong: a label depends on the order of the logits, which\n"
    "    survives when all of them shrink.  The regressor's default is smaller.",
    stratified=", the same share of each class",
    class_weight="""class_weight : dict, "balanced" or None, default=None
    Weights of the classes, as in scikit-learn.
""",
    classes="""classes_ : ndarray of shape (n_classes,)
    The labels.
""",
    net="skorch.NeuralNetClassifier",
    score="accuracy",
    other="InvariantRegressor : The same for continuous targets.",
)
class InvariantClassifier(ClassifierMixin, _InvariantHead):
    """A classifier on the product of several invariances, which learns to join them.

    Each row is compared with anchors under several metrics.  A learned aggregation [1]_
    makes the relative spaces one, and a linear layer, optionally behind hidden layers,
    predicts the class from it.  When the encoder changes, `rebase` (or
    `skinvariant.stitch`) puts the new anchors in place, and the head stays as trained.

    Examples
    --------
    Digits, and an encoder that captures the same information in different coordinates:
    here the pixels are rotated, scaled and moved.

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

    A rotation keeps Euclidean distances, but not the largest difference in a
    coordinate:

    >>> {metric: round(value, 2) for metric, value in new.agreement_.items()}
    {'cosine': 1.0, 'euclidean': 1.0, 'manhattan': 0.96, 'chebyshev': 0.53}
    """

    _multi_output = False
    _measure = staticmethod(accuracy_score)

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
        callbacks=None,
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
            callbacks=callbacks,
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
        """Train for one epoch on some rows, starting from the present weights.

        The first call chooses the anchors among its own rows.

        Parameters
        ----------
        X : {array-like, CSR matrix} of shape (n_samples, n_features)
            Rows of the space of the head.
        y : array-like of shape (n_samples,)
            Their labels.
        classes : array-like of shape (n_classes,), default=None
            All labels that can occur; needed in the first call.
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
        if classes is None and not hasattr(self, "net_"):
            raise ValueError(
                "the first call of partial_fit needs classes, all labels that can "
                "occur; got None"
            )
        if isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight must be a dict or None for partial_fit, which never has "
                f"all rows; got {self.class_weight!r}"
            )
        return self._partial_fit(X, y, sample_weight, classes)

    def _fit_targets(self, y, weights, classes=None):
        y = check_labels(y)
        classes = y if classes is None else check_labels(classes, "classes")
        self._encoder = LabelEncoder().fit(classes)
        self.classes_ = self._encoder.classes_
        self._n_outputs = len(self.classes_)

    def _encode(self, y):
        return self._encoder.transform(y)

    def _check_known(self, y, classes=None):
        if classes is not None:
            found = set(check_labels(classes, "classes").tolist())
            if found != set(self.classes_.tolist()):
                raise ValueError(
                    f"classes must be those of the first call, {self.classes_}; got "
                    f"{sorted(found, key=str)}"
                )
        found = set(check_labels(y).tolist())
        if unknown := sorted(found.difference(self.classes_.tolist()), key=str):
            raise ValueError(
                f"y must be labels of classes_, {self.classes_}; got {unknown[:5]}"
            )

    def _class_weights(self, y):
        return compute_sample_weight(self.class_weight, y)

    def _make_net(self, network, **params):
        return ClassifierNet(
            network,
            criterion=torch.nn.CrossEntropyLoss,
            classes=np.arange(self._n_outputs),
            callbacks__valid_acc=None,  # it would leave out the sample weights
            **params,
        )


@with_shared_sections(
    noise="0.1",
    why_noise="Small: a target changes with\n"
    "    every shift of a row, a label only at a boundary.  The classifier's default\n"
    "    is larger.",
    lr="0.003",
    why_lr="Large: the outputs must reach the scale of the targets, not only\n"
    "    the right order.  The classifier's default is smaller.",
    weight_decay="0.01",
    why_weight_decay="Small: a strong decay shrinks predictions towards the\n"
    "    mean target.  The classifier's default is larger.",
    stratified="",
    class_weight="",
    classes="",
    net="skorch.NeuralNetRegressor",
    score="R²",
    other="InvariantClassifier : The same for class labels.",
)
class InvariantRegressor(RegressorMixin, _InvariantHead):
    """A regressor on the product of several invariances, which learns to join them.

    Each row is compared with anchors under several metrics.  A learned aggregation [1]_
    makes the relative spaces one, and a linear layer, optionally behind hidden layers,
    predicts one target or several from it.  Targets are standardised for training, and
    predictions are in the targets' own units.

    Examples
    --------
    The targets are functions of a point's coordinates, and another encoder rotates
    these:

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
    0.92
    """

    _multi_output = True
    _measure = staticmethod(r2_score)

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
        """Train for one epoch on some rows, starting from the present weights.

        The first call chooses the anchors among its own rows, and standardises the
        targets by them.

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
                f"y must have {self._n_outputs} targets, as fitted; got {n_outputs}"
            )

    def _class_weights(self, y):
        return 1.0

    def _make_net(self, network, **params):
        return RegressorNet(network, criterion=torch.nn.MSELoss, **params)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
