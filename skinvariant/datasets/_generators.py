"""Spaces whose relation is known."""

from numbers import Integral, Real

import numpy as np
from scipy.stats import ortho_group
from sklearn.datasets import make_blobs
from sklearn.utils import Bunch, check_random_state

from skinvariant._validation import check_choice, check_number

# those of `skinvariant.metrics`, which data sets need nothing else of
_TRANSFORMATIONS = (
    "isotropic_scaling",
    "orthogonal",
    "translation",
    "permutation",
    "signed_permutation",
    "axis_scaling",
    "linear",
    "affine",
)
# classes whose maps may lead into a wider space
_WIDENING = ("affine", "isometry", "linear", "orthogonal")


def _scales(n, random_state):
    """Draw factors between 1/4 and 4, none of them near 1."""
    return 2.0 ** (random_state.uniform(0.5, 2, n) * random_state.choice([-1, 1], n))


def _rotation(n, random_state):
    """Draw an orthogonal matrix, of either determinant."""
    if n == 1:
        return random_state.choice([-1.0, 1.0], (1, 1))
    return ortho_group.rvs(n, random_state=random_state)


def _draw_matrix(name, n, n_out, random_state):
    """Draw the matrix, of shape (n, n_out), of a transformation of a class."""
    if name == "isotropic_scaling":
        return _scales(1, random_state) * np.eye(n)
    if name == "axis_scaling":
        return np.diag(_scales(n, random_state))
    if name in ("permutation", "signed_permutation"):
        matrix = np.eye(n)[random_state.permutation(n)]
        signed = name == "signed_permutation"
        return matrix * random_state.choice([-1.0, 1.0], n) if signed else matrix
    if name in ("orthogonal", "isometry"):
        return _rotation(n_out, random_state)[:n]
    if name in ("linear", "affine"):  # singular values known: well conditioned
        wide = _rotation(n_out, random_state)[:n]
        return _rotation(n, random_state) * _scales(n, random_state) @ wide
    return np.eye(n)  # the translation of the origin has an offset only


def _bent_planes(n_samples, n_features, n_classes, random_state):
    """Return a strip of a plane rolled up, the same in waves, and classes along it."""
    low, high = 11.0, 100.0
    along = random_state.uniform(low, high, n_samples)
    across = random_state.uniform(0, 10, n_samples)
    y = (n_classes * (along - low) / (high - low)).astype(np.intp)
    angle = np.sqrt(2 * along)  # of the involute of the unit circle, by arc length
    cos, sin = np.cos(angle), np.sin(angle)
    roll = np.column_stack([cos + angle * sin, sin - angle * cos, across])
    radius = 5.0  # of half circles, up and down in turn
    number, angle = np.divmod(along / radius, np.pi)
    up = np.where(number % 2 == 0, 1.0, -1.0)
    waves = np.column_stack(
        [radius * (1 - np.cos(angle) + 2 * number), radius * up * np.sin(angle), across]
    )
    roll = roll @ _rotation(n_features, random_state)[:3]
    return roll, np.pad(waves, ((0, 0), (0, n_features - 3))), y


def make_related_spaces(
    n_samples=200,
    n_features=8,
    *,
    transformation="orthogonal",
    n_features_b=None,
    noise=0.0,
    n_classes=3,
    random_state=None,
):
    """Make two corresponding spaces that differ by a known transformation.

    The first space holds Gaussian classes whose spread differs by axis and whose mean
    is not the origin, so that every transformation changes it.  The second is
    ``X_a @ matrix + offset``, plus noise.  An "isometry" bends a surface instead: see
    `transformation`.

    Parameters
    ----------
    n_samples : int, default=200
        How many rows.
    n_features : int, default=8
        Width of the first space; 3 or more for an "isometry".
    transformation : str or sequence of str, default="orthogonal"
        A class of `skinvariant.metrics.TRANSFORMATIONS` to draw from; or several, which
        are applied one after the other.  Scalings have factors between 1/4 and 4.
        Or "isometry", alone or among several: the first space is then a Swiss roll, a
        strip of a plane that is rolled up, with classes along the strip, and the second
        the same strip bent into waves.  Distances along the strip are equal in both.
    n_features_b : int, default=None
        Width of the second space, not less than `n_features`; None: the same.  A wider
        space takes an orthogonal, linear or affine map, or an isometry.
    noise : float >= 0, default=0.0
        Standard deviation of Gaussian noise added to the second space, in units of
        that space's root mean squared deviation from its mean.
    n_classes : int, default=3
        How many classes.
    random_state : int, RandomState instance or None, default=None
        Seed.

    Returns
    -------
    Bunch
        With ``X_a`` of shape (n_samples, n_features), ``X_b`` of shape
        (n_samples, n_features_b), labels ``y`` of shape (n_samples,), and the
        transformation: ``matrix`` of shape (n_features, n_features_b), ``offset`` of
        shape (n_features_b,) and its name ``transformation``.  No matrix makes an
        "isometry": `matrix` and `offset` are then None.

    Raises
    ------
    ValueError, TypeError
        If a parameter is not as documented.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.datasets import make_related_spaces
    >>> spaces = make_related_spaces(transformation="orthogonal", n_features_b=12,
    ...                              random_state=0)
    >>> spaces.X_a.shape, spaces.X_b.shape
    ((200, 8), (200, 12))
    >>> float(abs(spaces.X_b - spaces.X_a @ spaces.matrix - spaces.offset).max())
    0.0
    >>> float(abs(spaces.matrix @ spaces.matrix.T - np.eye(8)).max().round(12))
    0.0
    """
    check_number("n_samples", n_samples, Integral, 1)
    check_number("n_classes", n_classes, Integral, 1)
    check_number("noise", noise, Real, 0, np.finfo(float).max)
    single = isinstance(transformation, str) or not np.iterable(transformation)
    names = (transformation,) if single else tuple(transformation)
    if not names:
        raise ValueError("transformation must name at least one class; got []")
    for name in names:
        choices = dict.fromkeys((*_TRANSFORMATIONS, "isometry"))
        check_choice("transformation", name, choices, or_else="several")
    bent = "isometry" in names
    check_number("n_features", n_features, Integral, 3 if bent else 1)
    n_out = n_features if n_features_b is None else n_features_b
    check_number("n_features_b", n_out, Integral, n_features)
    if n_out > n_features and not set(names) & set(_WIDENING):
        raise ValueError(
            f"n_features_b={n_out} is more than n_features={n_features}, so that "
            f"transformation must include one of {_WIDENING}; got {transformation!r}"
        )
    random_state = check_random_state(random_state)
    if bent:
        X_a, X_b, y = _bent_planes(n_samples, n_features, n_classes, random_state)
    else:
        X_a, y = make_blobs(
            n_samples,
            n_features,
            centers=n_classes,
            center_box=(-4, 4),
            random_state=random_state,
        )
        X_a = X_a * _scales(n_features, random_state) + random_state.uniform(
            1, 3, n_features
        )
        X_b = X_a
    matrix, offset = np.eye(n_features), np.zeros(n_features)
    for name in names:
        width = n_out if name in _WIDENING else matrix.shape[1]
        step = _draw_matrix(name, matrix.shape[1], width, random_state)
        matrix, offset = matrix @ step, offset @ step
        if name in ("translation", "affine"):
            offset = offset + 4 * random_state.standard_normal(width)
    X_b = X_b @ matrix + offset
    spread = np.sqrt(((X_b - X_b.mean(axis=0)) ** 2).mean())
    X_b = X_b + noise * spread * random_state.standard_normal(X_b.shape)
    return Bunch(
        X_a=X_a,
        X_b=X_b,
        y=y,
        matrix=None if bent else matrix,
        offset=None if bent else offset,
        transformation=transformation,
    )
