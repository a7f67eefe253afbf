"""What makes the method dependable, and all networks here share: a centre, an affine path, and bounds.

- A *centre* (for example the per-feature median) is subtracted from the encoder's input and added to the decoder's
  output;
- an *affine path* runs beside the deep one, ``loc_z = A x + g(x)`` and ``loc_x = B z + f(z)``, so that training starts
  near a robust PCA, which the affine iC-VAE is (Proposition 1 of the paper), and the deep part corrects it. Without the
  centre and the affine path most latent units collapse;
- scales are *bounded*, and inputs may be: before training, recycled rows are far from the data, and an exponential of
  them overflows; so are cells with gross errors.
"""

import math

import torch
from torch import Tensor, nn

from pyro_ricvae._core.checks import features_vector

#: Bounds of a network's log-scale: scales lie between exp(-8) = 0.0003 and exp(2) = 7.4.
LOG_SCALE_BOUNDS = (-8.0, 2.0)


def center_of(center: object, n_features: int, default: float = 0.0) -> Tensor:
    """Return a centre, of shape (d,), or raise a ValueError unless it holds d finite values."""
    if center is None:
        return torch.full((n_features,), default)
    return features_vector("center", center, n_features)


def check_input(what: str, rows: Tensor, width: int, dtype: torch.dtype) -> None:
    """Raise a ValueError unless rows are as wide as a network takes them, and of its type."""
    # A width of 1 would broadcast against the centre without a word.
    if rows.shape[-1:] != (width,):
        raise ValueError(f"Expected rows of {width} {what}, actual shape {tuple(rows.shape)}.")
    if rows.dtype != dtype and not torch.is_autocast_enabled(rows.device.type):
        raise ValueError(
            f"Expected rows of the network's type {dtype}, actual {rows.dtype}: change the one, x.to({dtype}), or the "
            f"other, model.to({rows.dtype}) and guide.to({rows.dtype})."
        )


def affine_path_of(n_inputs: int, n_outputs: int, wanted: bool) -> nn.Linear | None:
    """Return an affine path beside a deep one, or None where it is not wanted."""
    # Without a bias: the deep path's last layer has one.
    return nn.Linear(n_inputs, n_outputs, bias=False) if wanted else None


def bounded_scale(log_scale: Tensor) -> Tensor:
    """Return exp of `log_scale`, smoothly bounded to `LOG_SCALE_BOUNDS`; 0 gives a scale of 1, with slope 1."""
    lower, upper = LOG_SCALE_BOUNDS
    share = -lower / (upper - lower)
    slope = (upper - lower) * share * (1 - share)
    fraction = torch.sigmoid(log_scale / slope + math.log(share / (1 - share)))
    return torch.exp(lower + (upper - lower) * fraction)
