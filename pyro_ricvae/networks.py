"""Encoders and decoders, safe for any leading dimensions.

Any `torch.nn.Module` with the same signature will do; these carry what makes the method dependable:

- a *centre* (for example the per-feature median) is subtracted from the encoder's input and added to the decoder's
  output;
- an *affine path* runs beside the deep one, ``loc_z = A x + g(x)`` and ``loc_x = B z + f(z)``, so that training starts
  near a robust PCA, which the affine iC-VAE is (Proposition 1 of the paper), and the deep part corrects it. Without the
  centre and the affine path most latent units collapse;
- scales are *bounded*, and inputs may be: before training, recycled rows are far from the data, and an exponential of
  them overflows; so are cells with gross errors.
"""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_ricvae._validation import features_vector, positive_finite, positive_int, positive_ints

#: Bounds of a network's log-scale: scales lie between exp(-8) = 0.0003 and exp(2) = 7.4.
LOG_SCALE_BOUNDS = (-8.0, 2.0)

# Where a sigmoid output's centre is kept away from 0 and 1, where its logit is infinite and learns nothing.
_SIGMOID_MARGIN = 0.01


class MLPEncoder(nn.Module):
    r"""A multilayer perceptron from rows to the location and scale of their latents, with an affine path.

    With c the centre, :math:`\mu_z = A (x - c) + g(x - c)` and :math:`\log \sigma_z = b(h(x - c))`, where g and h share
    their hidden layers and b is a smooth bound to `LOG_SCALE_BOUNDS`.

    Parameters
    ----------
    n_features : int
        The number d of features of a row.
    n_latent : int
        The number of latent units.
    hidden : sequence of int
        Sizes of the hidden layers (ReLU), in order from x to z. Empty for an affine encoder.
    affine_path : bool, default=True
        Whether the location has the affine path A beside the deep one. Means nothing where `hidden` is empty.
    center : array-like of shape (d,), optional
        What is subtracted from the input, in data units. None subtracts nothing.
    bound : float, optional
        The distance from the centre beyond which an input is taken to lie at it, in data units: a cell that is off by a
        factor of a thousand then moves the latents no more than one that is far out. None bounds nothing.

    Attributes
    ----------
    center : Tensor, shape (d,)
        A buffer.
    bound : float or None
        As given.

    Raises
    ------
    ValueError
        If a size is not a whole number >= 1, `center` does not hold d finite values, or `bound` is not positive and
        finite.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.networks import MLPEncoder
    >>> loc, scale = MLPEncoder(64, 10, hidden=(256, 128))(torch.rand(7, 3, 64))
    >>> loc.shape, scale.shape
    (torch.Size([7, 3, 10]), torch.Size([7, 3, 10]))
    """

    center: Tensor

    def __init__(
        self,
        n_features: int,
        n_latent: int,
        hidden: Sequence[int],
        *,
        affine_path: bool = True,
        center: object = None,
        bound: float | None = None,
    ) -> None:
        super().__init__()
        n_features = positive_int("n_features", n_features)
        n_latent = positive_int("n_latent", n_latent)
        self.register_buffer("center", _center(center, n_features))
        self.bound = None if bound is None else positive_finite("bound", bound).item()
        self.deep, width = _hidden_layers(n_features, hidden)
        self.loc = nn.Linear(width, n_latent)
        self.log_scale = nn.Linear(width, n_latent)
        self.affine = _affine_path(n_features, n_latent, affine_path and bool(hidden))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the location and the scale of q(z | x).

        Parameters
        ----------
        x : Tensor, shape (..., d)
            Rows, in data units.

        Returns
        -------
        loc, scale : Tensor, shape (..., n_latent)
            The scale is positive.

        Raises
        ------
        ValueError
            If `x` has another number of features, or another type, than the encoder.
        """
        _check_input("features", x, self.center.shape[0], self.center.dtype)
        centered = x - self.center
        if self.bound is not None:
            centered = centered.clamp(-self.bound, self.bound)
        features = self.deep(centered)
        loc = self.loc(features)
        if self.affine is not None:
            loc = loc + self.affine(centered)
        return loc, _bounded_scale(self.log_scale(features))


class MLPDecoder(nn.Module):
    r"""A multilayer perceptron from latents to the location of a row, and its scale on request, with an affine path.

    With c the centre, :math:`\mu_x = c + B z + f(z)`, or :math:`\mu_x = \mathrm{sigmoid}(\mathrm{logit}(c) + B z +
    f(z))`.

    Parameters
    ----------
    n_latent : int
        The number of latent units.
    n_features : int
        The number d of features of a row.
    hidden : sequence of int
        Sizes of the hidden layers (ReLU), in order from z to x. Empty for an affine decoder.
    affine_path : bool, default=True
        Whether the location has the affine path B beside the deep one. Means nothing where `hidden` is empty.
    center : array-like of shape (d,), optional
        Where the location starts from, in data units. None is 0, or 1/2 for a sigmoid output. Under a sigmoid it must
        lie in [0, 1] and is kept 0.01 away from either end.
    n_outputs : {1, 2}, default=1
        1 for the location; 2 for the location and a scale, for `likelihoods.LearnedNormal`. Give the likelihood's
        ``n_outputs``. Scales are within `LOG_SCALE_BOUNDS`, 0.0003 to 7.4 in data units: standardise the data.
    sigmoid : bool, default=False
        Whether the location is squeezed into (0, 1).

    Attributes
    ----------
    center : Tensor, shape (d,)
        A buffer, in data units.

    Raises
    ------
    ValueError
        If a size is not a whole number >= 1, `n_outputs` is neither 1 nor 2, or `center` does not hold d finite values,
        between 0 and 1 for a sigmoid output.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.networks import MLPDecoder
    >>> MLPDecoder(10, 64, hidden=(128, 256))(torch.zeros(7, 3, 10)).shape
    torch.Size([7, 3, 64])
    """

    center: Tensor

    def __init__(
        self,
        n_latent: int,
        n_features: int,
        hidden: Sequence[int],
        *,
        affine_path: bool = True,
        center: object = None,
        n_outputs: int = 1,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        n_latent = positive_int("n_latent", n_latent)
        n_features = positive_int("n_features", n_features)
        if n_outputs not in (1, 2):
            raise ValueError(f"Expected n_outputs to be 1 (location) or 2 (location and scale), actual {n_outputs!r}.")
        self.register_buffer("center", _center(center, n_features, default=0.5 if sigmoid else 0.0))
        if sigmoid and not ((self.center >= 0) & (self.center <= 1)).all():
            raise ValueError(
                "Expected the center of a sigmoid output to lie between 0 and 1, actual "
                f"{self.center.min():g} to {self.center.max():g}: scale the data to [0, 1], or leave the sigmoid out."
            )
        self.n_latent = n_latent
        self.sigmoid = sigmoid
        self.deep, width = _hidden_layers(n_latent, hidden)
        self.loc = nn.Linear(width, n_features)
        self.log_scale = nn.Linear(width, n_features) if n_outputs == 2 else None
        self.affine = _affine_path(n_latent, n_features, affine_path and bool(hidden))

    def forward(self, z: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the location of p(x | z), with two outputs the scale too.

        Parameters
        ----------
        z : Tensor, shape (..., n_latent)
            Latents.

        Returns
        -------
        loc : Tensor, shape (..., d)
            In data units.
        scale : Tensor, shape (..., d)
            Positive, in data units. Only with two outputs.

        Raises
        ------
        ValueError
            If `z` has another number of latent units, or another type, than the decoder.
        """
        _check_input("latent units", z, self.n_latent, self.center.dtype)
        features = self.deep(z)
        loc = self.loc(features)
        if self.affine is not None:
            loc = loc + self.affine(z)
        if self.sigmoid:
            loc = torch.sigmoid(loc + torch.logit(self.center, eps=_SIGMOID_MARGIN))
        else:
            loc = loc + self.center
        return loc if self.log_scale is None else (loc, _bounded_scale(self.log_scale(features)))


def _center(center: object, n_features: int, default: float = 0.0) -> Tensor:
    if center is None:
        return torch.full((n_features,), default)
    return features_vector("center", center, n_features)


def _check_input(what: str, rows: Tensor, width: int, dtype: torch.dtype) -> None:
    # A width of 1 would broadcast against the centre without a word.
    if rows.shape[-1:] != (width,):
        raise ValueError(f"Expected rows of {width} {what}, actual shape {tuple(rows.shape)}.")
    if rows.dtype != dtype and not torch.is_autocast_enabled(rows.device.type):
        raise ValueError(
            f"Expected rows of the network's type {dtype}, actual {rows.dtype}: change the one, x.to({dtype}), or the "
            f"other, model.to({rows.dtype}) and guide.to({rows.dtype})."
        )


def _hidden_layers(n_inputs: int, hidden: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Return the hidden layers, none for an empty `hidden`, and the width of the last."""
    widths = (n_inputs, *positive_ints("hidden", hidden))
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers), widths[-1]


def _affine_path(n_inputs: int, n_outputs: int, wanted: bool) -> nn.Linear | None:
    # Without a bias: the deep path's last layer has one.
    return nn.Linear(n_inputs, n_outputs, bias=False) if wanted else None


def _bounded_scale(log_scale: Tensor) -> Tensor:
    """Return exp of `log_scale`, smoothly bounded to `LOG_SCALE_BOUNDS`; 0 gives a scale of 1, with slope 1."""
    lower, upper = LOG_SCALE_BOUNDS
    share = -lower / (upper - lower)
    slope = (upper - lower) * share * (1 - share)
    fraction = torch.sigmoid(log_scale / slope + math.log(share / (1 - share)))
    return torch.exp(lower + (upper - lower) * fraction)
