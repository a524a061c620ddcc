"""Optional libraries that hold encoders and benchmarks."""

from contextlib import contextmanager
from importlib import import_module


def load_library(name, what):
    """Import an optional module.

    Parameters
    ----------
    name : str
        The module.
    what : str
        What needs it, for the error message.

    Returns
    -------
    module
        The module.

    Raises
    ------
    ImportError
        If it cannot be imported; the message gives the install command.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise ImportError(
            f"{what} needs {name.partition('.')[0]}, which cannot be imported: "
            "pip install 'skinvariant[benchmarks]'"
        ) from error


@contextmanager
def loading(what):
    """Add a note to errors of other libraries: what was being loaded.

    Parameters
    ----------
    what : str
        What is being loaded.

    Yields
    ------
    None
        Nothing.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:
        error.add_note(f"skinvariant was loading {what}")
        raise
