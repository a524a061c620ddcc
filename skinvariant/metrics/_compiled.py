"""Compiled kernels for L1 and L-infinity distances.

The loop over features keeps a tile of 8 rows (4 for both distances at once) and one
vector of anchors in registers.  Each feature costs a subtraction, an absolute value and
a sum or maximum, and intermediate results are not stored.  The inner loop is written
with the compiler's vectors, because automatic vectorisation depends on small details of
the source.  Importing this module imports numba.
"""

import functools
import warnings

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

# bytes of a vector of anchors: one register of AVX2, two of NEON, half of AVX-512
_VECTOR_BYTES = 32
# accumulators held at once: half of the 16 registers of AVX2
_ACCUMULATORS = 8
# number of rows whose partial results fit into the fastest cache
_ROWS = 128
# features summed in the dtype of the rows before the sum moves on to float64: float32
# sums are right within 128 / 2 ** 24 < 1e-5, whatever the rows and however wide
_CHUNK = 128


def pack(anchors):
    """Lay out anchors in the order in which the kernel reads them.

    Parameters
    ----------
    anchors : ndarray of shape (n_anchors, n_features), float32 or float64
        The anchors.

    Returns
    -------
    ndarray of shape (n_panels, n_features, n_lanes)
        The values of one vector of anchors side by side, feature by feature; the
        last panel is filled up with 0.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.metrics._compiled import pack
    >>> pack(np.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[[1.0, 3.0, 0.0, 0.0], [2.0, 4.0, 0.0, 0.0]]]
    """
    n_lanes = _VECTOR_BYTES // anchors.itemsize
    padded = np.pad(anchors, ((0, -len(anchors) % n_lanes), (0, 0)))
    panels = padded.reshape(-1, n_lanes, anchors.shape[1])
    return np.ascontiguousarray(panels.transpose(0, 2, 1))


def _vector_at(builder, data, index, vector):
    """Point to the vector that begins at an element of an array."""
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _row_pointers(builder, X, first, n_rows):
    """Point to rows of X; beyond the last row, to the last one again."""
    n_samples, n_features = cgutils.unpack_tuple(builder, X.shape)
    last = builder.sub(n_samples, first.type(1))
    pointers = []
    for i in range(n_rows):
        row = builder.add(first, first.type(i))
        row = builder.select(builder.icmp_signed("<", row, last), row, last)
        pointers.append(builder.gep(X.data, [builder.mul(row, n_features)]))
    return pointers


def _absolute_difference(builder, scalar, values):
    """Emit ``abs(scalar - values)`` for a vector of values."""
    vector, lanes, index = values.type, values.type.count, ir.IntType(32)
    blank = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(blank, scalar, index(0))
    zeros = ir.Constant(ir.VectorType(index, lanes), [0] * lanes)
    gap = builder.fsub(builder.shuffle_vector(first, blank, zeros), values)
    name = f"llvm.fabs.v{lanes}{vector.element.intrinsic_name}"
    signature = ir.FunctionType(vector, [vector])
    function = cgutils.get_or_insert_function(builder.module, signature, name)
    return builder.call(function, [gap])


def _add(builder, held, value):
    """Emit ``held + value``, in the wider of the two types."""
    if held.type != value.type:
        value = builder.fpext(value, held.type)
    return builder.fadd(held, value)


def _maximum(builder, held, value):
    """Emit the larger of two values."""
    return builder.select(builder.fcmp_ordered(">", value, held), value, held)


def _slot(builder, value):
    """Allocate a variable; the compiler puts it into a register."""
    slot = cgutils.alloca_once(builder, value.type)
    builder.store(value, slot)
    return slot


@intrinsic
def _tile(typingctx, X, panel, first, start, stop, sums, maxima):
    """Process the features from `start` to `stop`, for some rows and one panel.

    Updates `sums`, in float64, and `maxima`; one of them may be None.
    """
    size = X.dtype.bitwidth // 8
    lanes = _VECTOR_BYTES // size
    outputs = [
        (place, kind, combine)
        for place, kind, combine in ((5, sums, _add), (6, maxima, _maximum))
        if isinstance(kind, types.Array)
    ]
    n_rows = _ACCUMULATORS // len(outputs)

    def generate(context, builder, signature, arguments):
        def view(place, kind):
            return context.make_array(kind)(context, builder, arguments[place])

        first, start, stop = arguments[2:5]
        vector = ir.VectorType(context.get_value_type(X.dtype), lanes)
        rows = _row_pointers(builder, view(0, X), first, n_rows)
        anchors = view(1, panel).data
        zero, one = ir.Constant(vector, None), start.type(1)
        held = [[_slot(builder, zero) for _ in rows] for _ in outputs]
        with cgutils.for_range_slice(builder, start, stop, one) as (feature, _):
            at = builder.mul(feature, feature.type(lanes))
            values = builder.load(_vector_at(builder, anchors, at, vector), align=size)
            for i, row in enumerate(rows):
                scalar = builder.load(builder.gep(row, [feature]))
                gap = _absolute_difference(builder, scalar, values)
                for slots, (_, _, combine) in zip(held, outputs, strict=True):
                    new = combine(builder, builder.load(slots[i]), gap)
                    builder.store(new, slots[i])
        for slots, (place, kind, combine) in zip(held, outputs, strict=True):
            wide = ir.VectorType(context.get_value_type(kind.dtype), lanes)
            align, data = kind.dtype.bitwidth // 8, view(place, kind).data
            for i, slot in enumerate(slots):
                row = builder.add(first, first.type(i))
                at = builder.mul(row, first.type(lanes))
                target = _vector_at(builder, data, at, wide)
                old = builder.load(target, align=align)
                new = combine(builder, old, builder.load(slot))
                builder.store(new, target, align=align)
        return context.get_dummy_value()

    signature = types.void(X, panel, first, start, stop, sums, maxima)
    return signature, generate


def _compare(X, packed, manhattan, chebyshev, sums, maxima):  # pragma: no cover
    """Fill `manhattan` and `chebyshev`, of which one may be None."""
    n_panels, n_features, lanes = packed.shape
    step = _ACCUMULATORS if sums is None or maxima is None else _ACCUMULATORS // 2
    for top in range(0, X.shape[0], _ROWS):
        rows = X[top : top + _ROWS]
        for b in range(n_panels):
            if sums is not None:
                sums[:] = 0
            if maxima is not None:
                maxima[:] = 0
            for start in range(0, n_features, _CHUNK):
                stop = min(start + _CHUNK, n_features)
                for first in range(0, rows.shape[0], step):
                    _tile(rows, packed[b], first, start, stop, sums, maxima)
            left = b * lanes
            if sums is not None:
                for j in range(left, min(left + lanes, manhattan.shape[1])):
                    manhattan[top : top + _ROWS, j] = sums[: rows.shape[0], j - left]
            if maxima is not None:
                for j in range(left, min(left + lanes, chebyshev.shape[1])):
                    chebyshev[top : top + _ROWS, j] = maxima[: rows.shape[0], j - left]


@functools.cache
def load(dtype="float32", names=("manhattan",)):
    """Load the kernel for a dtype and some distances from disk, or compile it.

    numba's files may be damaged, by a full disk for instance, and then raise errors of
    any type.  They are emptied and written again; where that fails, they are not used.

    Parameters
    ----------
    dtype : {"float32", "float64"}, default="float32"
        The dtype of the rows.
    names : tuple of {"manhattan", "chebyshev"}, default=("manhattan",)
        The distances.

    Returns
    -------
    callable
        The kernel, after one test call.

    Raises
    ------
    Exception
        Of any kind, if the compiler does not work here.

    Warns
    -----
    UserWarning
        If there is no folder to store it in.

    Examples
    --------
    >>> from skinvariant.metrics._compiled import load
    >>> load().__name__
    '_compare'
    """
    one = np.zeros((1, 1), dtype=dtype)
    for files in ("used", "emptied", "unused"):
        try:
            options = {"nogil": True, "error_model": "numpy"}
            kernel = njit(_compare, cache=files != "unused", **options)
            if files == "emptied":
                kernel.recompile()  # it has compiled nothing, but empties its files
            _run(kernel, one, pack(one), 1, names)
        except Exception as error:
            if files == "unused":
                raise
            reason = error
        else:
            break
    if files == "unused":
        _warn_of_files(f"{type(reason).__name__}: {reason}")
    return kernel


@functools.cache
def _warn_of_files(reason):
    """Warn, once for all kernels, that numba's files cannot be used."""
    warnings.warn(
        "the compiled kernels of skinvariant cannot be stored on disk, so that every "
        "process compiles them again, which takes some seconds: set NUMBA_CACHE_DIR to "
        f"a folder that can be written to; got {reason}",
        UserWarning,
        stacklevel=3,
    )


def _run(kernel, X, packed, n_anchors, names):
    """Allocate the output of the kernel, and call it."""
    outputs, scratch = [], []
    for name, dtype in (("manhattan", np.float64), ("chebyshev", X.dtype)):
        wanted, shape = name in names, (X.shape[0], n_anchors)
        outputs.append(np.empty(shape, dtype=X.dtype) if wanted else None)
        scratch.append(np.empty((_ROWS, packed.shape[2]), dtype) if wanted else None)
    kernel(X, packed, *outputs, *scratch)
    filled = dict(zip(("manhattan", "chebyshev"), outputs, strict=True))
    return {name: filled[name] for name in names}


def compare(X, packed, n_anchors, names):
    """Compute L1 and L-infinity distances to packed anchors, in one pass.

    Parameters
    ----------
    X : ndarray of shape (n_samples, n_features), float32 or float64
        Rows.
    packed : ndarray of shape (n_panels, n_features, n_lanes), dtype of `X`
        Anchors, from `pack`.
    n_anchors : int
        Number of anchors.
    names : collection of {"manhattan", "chebyshev"}
        The distances to compute.

    Returns
    -------
    dict of str to ndarray of shape (n_samples, n_anchors)
        The distances, in the dtype of `X`; infinite if it cannot hold them.

    Raises
    ------
    Exception
        Of any kind, if the compiler does not work here.

    Examples
    --------
    >>> import numpy as np
    >>> from skinvariant.metrics._compiled import compare, pack
    >>> X, anchors = np.zeros((1, 2)), np.array([[3.0, 4.0], [5.0, -12.0]])
    >>> both = compare(X, pack(anchors), 2, ("manhattan", "chebyshev"))
    >>> both["manhattan"].tolist(), both["chebyshev"].tolist()
    ([[7.0, 17.0]], [[4.0, 12.0]])
    """
    X = np.require(X, requirements=["C", "A"])
    names = tuple(names)
    return _run(load(X.dtype.name, names), X, packed, n_anchors, names)
