"""What estimators need to tell scikit-learn's callbacks of their fits."""

import contextlib

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn 1.8 has none; goes when that is no longer the floor

    class CallbackSupportMixin:
        """Nothing to support."""

    def with_callbacks(fit):
        """Return `fit` as it is."""
        return fit


__all__ = ["CallbackSupportMixin", "telling", "with_callbacks"]


@contextlib.contextmanager
def telling(estimator, *, max_subtasks=0, **given):
    """Tell callbacks that a fit begins and, unless it fails, that it has ended.

    Parameters
    ----------
    estimator : CallbackSupportMixin
        What is fitted, in a method under `with_callbacks`.
    max_subtasks : int, default=0
        How many parts the fit has, if it tells of them.
    **given : object
        `X`, `y` and `metadata` of the fit.

    Yields
    ------
    sklearn.callback.CallbackContext or None
        None before scikit-learn 1.9, which has no callbacks.
    """
    if not hasattr(estimator, "_init_callback_context"):
        yield None
        return
    context = estimator._init_callback_context(max_subtasks=max_subtasks)
    context.call_on_fit_task_begin(estimator=estimator, **given)
    yield context
    context.call_on_fit_task_end(
        estimator=estimator, **given, reconstruction_attributes=dict
    )
