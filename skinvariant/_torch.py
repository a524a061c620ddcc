"""Settings of torch that a user may have changed, and that change nothing here."""

from contextlib import contextmanager, nullcontext

import torch

__all__ = ["own_settings"]


@contextmanager
def own_settings():
    """Compute on the CPU unless told otherwise, with gradients, without autocast.

    Tensors are made where the code says, and can be trained, whatever the caller has
    set by `torch.set_default_device`, `torch.inference_mode`, `torch.no_grad`,
    `torch.set_grad_enabled` or `torch.autocast`.  All of this is of the calling
    thread alone.  The default dtype is of the whole process, so it is not touched:
    code under these settings names its dtypes.

    Yields
    ------
    None
        Nothing.

    Examples
    --------
    >>> import torch
    >>> from skinvariant._torch import own_settings
    >>> with torch.inference_mode():
    ...     with own_settings():
    ...         made = torch.zeros(2)
    >>> made.is_inference()
    False
    """
    elsewhere = torch.empty(0).device.type != "cpu"
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.device("cpu") if elsewhere else nullcontext(),  # it slows operations
        torch.autocast("cpu", enabled=False),
        torch.autocast("cuda", enabled=False),
        torch.autocast("mps", enabled=False),
    ):
        yield
