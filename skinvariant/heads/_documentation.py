"""The sections that the docstrings of both heads share."""

import inspect

SECTIONS = """Parameters
----------
n_anchors : int, default=300
    Number of anchors to choose among the fitted rows.  With fewer rows, all of them
    are anchors, with a warning.
metrics : sequence of str, Metric or callable, default=("cosine", "euclidean", \
        "manhattan", "chebyshev")
    As in `skinvariant.InvariantAggregator`.
metric_params : dict of str to dict, default=None
    Further parameters by the metric's name: ``{"minkowski": {"p": 3}}``.
anchors : {"random", "stratified", "kmeans", "farthest", "all"}, array-like of \
        int, rows or callable, default="random"
    How to choose anchors, or the anchors themselves, as in
    `skinvariant.RelativeProjector`.
pre : {"center", "standardize", "whiten"}, transformer or None, default=None
    Applied to rows and anchors before every metric.  It is fitted on the anchors, and
    again at `rebase`.
post : {"layer", "l2", "standardize"}, transformer or None, default="standardize"
    Applied to the relative vectors of each metric.  "standardize" makes the column of
    each anchor comparable between spaces: it is fitted on the relative vectors of the
    anchors, and again at `rebase`.
aggregation : {"mlp_sum", "attention", "weighted", "concat", "mean"}, \
        default="mlp_sum"
    How the relative spaces become one: `skinvariant.nn.MLPSum`, `AttentionSum`,
    `WeightedSum`, `Concat` or `Mean`.  Distances are negated first, so that
    larger means closer in every space.
hidden_layer_sizes : sequence of int, default=()
    Widths of hidden layers, with ReLU, between aggregation and output.
dropout : float in [0, 1), default=0.0
    Probability of dropping a value in front of each layer of the head in training.
space_dropout : float in [0, 1), default=0.5
    Probability of leaving a whole relative space out of a row in training; at least
    one stays.  The network then needs no single metric, and `reweight` can reduce the
    weight of any.
noise : float >= 0, default=%(noise)s
    Standard deviation of the Gaussian noise that is added in training to the relative
    spaces, each normalised to standard deviation 1.  It imitates the difference
    between two encoders.  %(why_noise)s
reweight : float >= 0, default=1.0
    Exponent of the weight that each relative space gets at `rebase`: the
    signal-to-noise ratio c² / (1 - c²) of its `agreement_` c.  A metric under which
    the anchors of the two spaces disagree gets a small weight.  0 keeps the weights of
    training.  In the space of the head it changes nothing.
max_epochs : int, default=20
    Number of passes through all rows in training.
batch_size : int or "auto", default="auto"
    Rows in a step of training.  "auto": a twentieth of all rows, but 4 to 128.
lr : float >= 0, default=%(lr)s
    Learning rate of AdamW; 30 times this for the numbers under the softmax of
    "weighted".  %(why_lr)s
weight_decay : float >= 0, default=%(weight_decay)s
    Decoupled weight decay of AdamW: each step subtracts ``lr * weight_decay`` times
    each weight.  %(why_weight_decay)s
early_stopping : bool, default=False
    Whether to set rows aside, stop when their loss has not improved for
    `n_iter_no_change` epochs, and keep the weights of the best epoch.
validation_fraction : float in (0, 1), default=0.1
    Share of the rows to set aside%(stratified)s, if `early_stopping`.
n_iter_no_change : int, default=10
    Epochs without improvement to wait, if `early_stopping`.
callbacks : list of skorch callbacks or of (str, callback) pairs, default=None
    Callbacks for skorch, such as a learning rate schedule or a checkpoint.  The list
    is not changed: each fit copies it, and the copies are in ``net_.callbacks_``.
    scikit-learn's callbacks, such as its progress bar, are different objects, and are
    for `set_callbacks`.
%(class_weight)sdevice : {"cpu", "cuda", "mps", "auto"}, default="cpu"
    Device of the network; also "cuda:1" and so on.  "auto": the first of "cuda", "mps"
    and "cpu" that this machine has.  Relative spaces are computed on the CPU, and all
    results are arrays.
random_state : int, RandomState instance or None, default=None
    Seed of the choice of anchors, of the initial weights and of the order of rows.  An
    int gives the same bits in each fit on the same machine; torch's global generators
    keep their states.  None draws from numpy's global generator.
verbose : int, default=0
    1 prints a line for each epoch.

Attributes
----------
%(classes)saggregator_ : InvariantAggregator
    The transformer from rows to relative spaces.
anchors_ : {ndarray, CSR matrix} of shape (n_anchors, n_features)
    The anchors.
anchor_indices_ : ndarray of shape (n_anchors,), dtype int
    Their rows in the fitted `X`.
n_samples_fit_ : int
    Number of rows of the fitted `X`.
net_ : %(net)s
    The skorch net, whose ``module_`` is a `skinvariant.nn.InvariantNetwork`.
history_ : list of dict
    "epoch", "train_loss" and "seconds" of each epoch, and with `early_stopping`
    "valid_loss" and "valid_score", which is %(score)s.
space_weights_ : dict of str to float
    The weight of each metric, for "weighted" and "attention".
agreement_ : dict of str to float
    How well `rebase` kept each metric's relative space, in [0, 1].
invariances_ : frozenset of str
    Transformations that leave predictions unchanged, as in `InvariantAggregator`.
n_features_in_ : int
    Width of the space.
feature_names_in_ : ndarray of shape (`n_features_in_`,)
    Column names of the fitted `X`, if it had any.

See Also
--------
%(other)s
skinvariant.InvariantAggregator : The product without a head, and without torch.
skinvariant.stitch : Swap the encoder under a fitted model.

Notes
-----
The network has the dtype of `X`: float32 is faster, and the only dtype of "mps".  The
relative spaces of all rows are computed once if they fit into scikit-learn's
``working_memory`` (1 GiB by default; 8 bytes for each row, metric and anchor).
Otherwise they are computed for each batch in each epoch.

A pickled head stores its weights as arrays, and any machine can load it: where `device`
is missing, it runs on the CPU, with a warning.  For files from strangers use skops,
which runs no code: the page on persistence has the list of types to trust.

References
----------
.. [1] I. Cannistraci et al., "From Bricks to Bridges: Product of Invariances to
   Enhance Latent Space Communication", ICLR 2024, arXiv 2310.01211.

"""


def with_shared_sections(**values):
    """Return a class decorator that inserts the sections in front of the examples.

    Parameters
    ----------
    **values : str
        The texts in which the two heads differ.

    Returns
    -------
    callable
        It returns the class itself.
    """

    def insert(cls):
        if cls.__doc__:  # None under ``python -OO``
            own, examples = inspect.cleandoc(cls.__doc__).split("Examples\n--------\n")
            heading = SECTIONS % values + "Examples\n--------\n"
            cls.__doc__ = own + heading + examples + "\n"
        return cls

    return insert
