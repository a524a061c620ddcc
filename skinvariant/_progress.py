"""The progress bar of long loops over rows."""

from contextlib import contextmanager

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(n_samples, *, n_done=0, verbose=True):
    """Show a progress bar of rows, by tqdm.

    Parameters
    ----------
    n_samples : int or None
        How many rows there will be, if that is known.
    n_done : int, default=0
        How many rows are done already.
    verbose : bool, default=True
        Whether to show it.

    Yields
    ------
    callable
        Call it with the number of rows that were done since the last call.

    Raises
    ------
    ImportError
        If `verbose` and tqdm is not installed.
    """
    if not verbose:
        yield lambda n_rows: None
        return
    try:
        from tqdm import tqdm
    except ImportError as error:
        raise ImportError(
            "verbose=True needs tqdm: pip install 'skinvariant[progress]'"
        ) from error
    with tqdm(total=n_samples, initial=n_done, unit=" rows", unit_scale=True) as bar:
        yield bar.update
