"""The plate over rows, the same in model and guide."""

import pyro
from pyro.infer.util import is_validation_enabled
from torch import Tensor

from pyro_ricvae._validation import check_rows


def data_plate(x: Tensor, size: int | None) -> pyro.plate:
    """Return the plate "data" over the rows of `x`.

    Parameters
    ----------
    x : Tensor, shape (..., B, d)
        The rows of a batch. Dimensions before the rows are particles or draws.
    size : int or None
        The number of rows in the whole data set: the log-densities inside the plate are scaled by ``size / B``.
        None takes the batch for the whole.

    Returns
    -------
    pyro.plate
        At dimension -1. Its length comes from dimension -2 of `x`: with vectorised particles the first dimension of a
        recycled `x` is that of the particles.

    Raises
    ------
    TypeError
        If `x` is not a tensor.
    ValueError
        If `x` has not the shape (..., B, d), no rows, or more rows than `size`, or is not of a floating-point type.
    """
    check_rows(x)
    # Not while validation is off: under torch.export it would bound the size of a batch.
    if size is not None and is_validation_enabled() and size < x.shape[-2]:
        raise ValueError(
            f"Expected a batch of at most size={size} rows, actual {x.shape[-2]}: "
            "size is the number of rows in the whole data set."
        )
    # `subsample` is read for its length only: torch moves the rows to the front without copying them.
    return pyro.plate("data", size or x.shape[-2], subsample=x.movedim(-2, 0), dim=-1)
