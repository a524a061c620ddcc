"""What training needs besides skorch: devices, seeds, weighted rows, epoch tasks."""

import contextlib

import torch
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, EarlyStopping

# --- devices and random numbers ---------------------------------------------------


def _available(kind):
    """Whether this machine has a kind of device."""
    if kind == "cuda":
        return torch.cuda.is_available()
    return torch.backends.mps.is_available() if kind == "mps" else kind == "cpu"


def torch_device(option):
    """Return the torch device for the parameter `device`.

    Parameters
    ----------
    option : str
        "cpu", "cuda" (or "cuda:1", ...), "mps", or "auto" for the first of "cuda",
        "mps" and "cpu" that this machine has.

    Returns
    -------
    torch.device
        The device.

    Raises
    ------
    ValueError, TypeError
        If `option` is none of these, or this machine has no such device.

    Examples
    --------
    >>> from skinvariant.heads._training import torch_device
    >>> torch_device("cpu")
    device(type='cpu')
    """
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
            f"device must be 'cpu', or one that this machine has; got {option!r}"
        )
    return torch.device(option)


@contextlib.contextmanager
def seeded(seed, device):
    """Seed torch's global generators, and restore their states at the end.

    The layers of torch draw from no other generators.

    Parameters
    ----------
    seed : int
        The seed.
    device : torch.device
        Where random numbers are drawn, besides the CPU.
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


# --- skorch -------------------------------------------------------------------------


class WeightedRows(torch.utils.data.Dataset):
    """Relative spaces with targets and sample weights, in whole batches.

    skorch's own Dataset gives rows one by one.  Relative spaces that do not fit into
    memory can be computed only for a whole batch, and of those that do an epoch of a
    small head takes 1.3 to 1.5 times as long one by one (CPU time, one thread).

    Parameters
    ----------
    project : callable
        It takes a list of row indices and returns their relative spaces, a tensor of
        shape (n, n_spaces, n_anchors).
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
        inputs = {"spaces": self.project(rows), "sample_weight": self.weights[rows]}
        return inputs, self.targets[rows]

    __getitems__ = __getitem__  # by which a DataLoader takes a batch at once

    @staticmethod
    def collate(batch):
        """Return a batch unchanged: `__getitems__` has put it together."""
        return batch


class EndOfTraining(Exception):  # noqa: N818, since it is no error
    """Raised in a callback at the end of an epoch, after which there is no other."""


class _WeightedRowsNet:
    """The mean over rows of weight times loss, and interrupts that are not lost.

    skorch has no sample weights, and it ends the training quietly at any interrupt,
    since its EarlyStopping raises one.  Control and C must end more than that.
    """

    def partial_fit(self, X, y=None, classes=None, **fit_params):
        """Train for `max_epochs` epochs, or until a callback ends the training."""
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y, **fit_params)
        except EndOfTraining:
            pass
        except KeyboardInterrupt:
            stops = [x for _, x in self.callbacks_ if isinstance(x, EarlyStopping)]
            if not any(stop.misses_ == stop.patience for stop in stops):
                raise
        self.notify("on_train_end", X=X, y=y)
        return self

    def infer(self, x, **fit_params):
        """Apply the network to the relative spaces."""
        spaces = x["spaces"] if isinstance(x, dict) else x
        return super().infer(spaces, **fit_params)

    def get_loss(self, y_pred, y_true, X, **kwargs):
        """Weight the losses of a batch; the criterion must not reduce them."""
        losses = super().get_loss(y_pred, y_true, X, **kwargs)
        return (X["sample_weight"] * losses.reshape(len(losses), -1).mean(dim=1)).mean()


class ClassifierNet(_WeightedRowsNet, NeuralNetClassifier):
    """A NeuralNetClassifier of weighted rows."""


class RegressorNet(_WeightedRowsNet, NeuralNetRegressor):
    """A NeuralNetRegressor of weighted rows."""


class EpochTasks(Callback):
    """Make each epoch a task for scikit-learn's callbacks, which skorch does not call.

    Parameters
    ----------
    context : sklearn.callback.CallbackContext
        The context of the fit, which has begun.
    **data : object
        The `estimator`, `X`, `y` and `metadata` of the fit.
    """

    def __init__(self, context, **data):
        self.context = context
        self.data = data

    def on_epoch_begin(self, net, **kwargs):
        """Begin a task."""
        self._task = self.context.subcontext(task_name="epoch")
        self._task.call_on_fit_task_begin(**self.data)

    def on_epoch_end(self, net, **kwargs):
        """End the task, and the training if a callback returned True."""
        # a copy of the head, if a callback asks for one, needs no attributes besides
        own = {"reconstruction_attributes": dict}
        if self._task.call_on_fit_task_end(**self.data, **own):
            raise EndOfTraining
