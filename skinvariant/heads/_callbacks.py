"""Fits as tasks of scikit-learn's callbacks, which scikit-learn has from 1.9 on."""

import contextlib

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # remove when 1.8 is no longer the floor

    class CallbackSupportMixin:
        """An empty mixin."""

    def with_callbacks(fit):
        """Return `fit` unchanged."""
        return fit


__all__ = ["CallbackSupportMixin", "fit_task", "with_callbacks"]


@contextlib.contextmanager
def fit_task(estimator, *, max_subtasks=0, **data):
    """Call the callbacks when a fit begins and, unless it fails, when it ends.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        The estimator, in a method decorated by `with_callbacks`.
    max_subtasks : int, default=0
        Number of subtasks of the fit.
    **data : object
        `X`, `y` and `metadata` of the fit.

    Yields
    ------
    sklearn.callback.CallbackContext or None
        None before scikit-learn 1.9.
    """
    if not hasattr(estimator, "_init_callback_context"):
        yield None
        return
    context = estimator._init_callback_context(max_subtasks=max_subtasks)
    context.call_on_fit_task_begin(estimator=estimator, **data)
    yield context
    context.call_on_fit_task_end(
        estimator=estimator, **data, reconstruction_attributes=dict
    )
