"""One progress bar for the functions of the package that take long."""

from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(total, *, unit, verbose, done=0):
    """Show a progress bar on stderr, where one is asked for.

    Parameters
    ----------
    total : int or None
        How many units there are, if that is known.
    unit : str
        What is counted, in the plural.
    verbose : bool
        Whether to show the bar, which needs tqdm.
    done : int, default=0
        How many units were done before.

    Yields
    ------
    callable
        To be called with the number of further units that are done.

    Raises
    ------
    ImportError
        If `verbose` and tqdm is not installed.

    Examples
    --------
    >>> from skinvariant._progress import progress_bar
    >>> with progress_bar(3, unit="rows", verbose=False) as advance:
    ...     for row in range(3):
    ...         advance(1)
    """
    if not verbose:
        yield lambda n_units: None
        return
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(
            f"verbose={verbose!r} needs tqdm: pip install 'skinvariant[progress]'"
        ) from error
    with tqdm(total=total, initial=done, unit=f" {unit}", unit_scale=True) as bar:
        yield bar.update
