"""Multilayer perceptrons as encoder and decoder."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pyro_ricvae._core.checks import positive_finite, positive_int, positive_ints
from pyro_ricvae.networks.centred import affine_path_of, bounded_scale, center_of, check_input

# Where a sigmoid output's centre is kept away from 0 and 1, where its logit is infinite and learns nothing.
_SIGMOID_MARGIN = 0.01


class MLPEncoder(nn.Module):
    r"""A multilayer perceptron from rows to the location and scale of their latents, with an affine path.

    With c the centre, :math:`\mu_z = A (x - c) + g(x - c)` and :math:`\log \sigma_z = b(h(x - c))`, where g and h share
    their hidden layers and b is a smooth bound to `networks.LOG_SCALE_BOUNDS`.

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
        self.register_buffer("center", center_of(center, n_features))
        self.bound = None if bound is None else positive_finite("bound", bound).item()
        self.deep, width = _hidden_layers(n_features, hidden)
        self.loc = nn.Linear(width, n_latent)
        self.log_scale = nn.Linear(width, n_latent)
        self.affine = affine_path_of(n_features, n_latent, affine_path and bool(hidden))

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
        check_input("features", x, self.center.shape[0], self.center.dtype)
        centered = x - self.center
        if self.bound is not None:
            centered = centered.clamp(-self.bound, self.bound)
        features = self.deep(centered)
        loc = self.loc(features)
        if self.affine is not None:
            loc = loc + self.affine(centered)
        return loc, bounded_scale(self.log_scale(features))


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
        ``n_outputs``. Scales are within `networks.LOG_SCALE_BOUNDS`, 0.0003 to 7.4 in data units: standardise the data.
    shapes : sequence of tuple of int, optional
        For a likelihood whose outputs are of other shapes than a row, or more than two, these:
        ``likelihood.parameter_shapes(n_features)``. `n_outputs` then means nothing. The centre belongs to a first
        output of the shape of a row; a second one of that shape is a scale; all others are numbers without bounds.
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
        shapes: Sequence[Sequence[int]] | None = None,
        sigmoid: bool = False,
    ) -> None:
        super().__init__()
        n_latent = positive_int("n_latent", n_latent)
        n_features = positive_int("n_features", n_features)
        if shapes is not None and not len(shapes):
            raise ValueError("Expected shapes of one output or more, actual none.")
        if shapes is None and n_outputs not in (1, 2):
            raise ValueError(f"Expected n_outputs to be 1 (location) or 2 (location and scale), actual {n_outputs!r}.")
        row = (n_features,)
        self.shapes = (row,) * n_outputs if shapes is None else tuple(positive_ints("shapes", each) for each in shapes)
        width_of_loc = math.prod(self.shapes[0])
        if self.shapes[0] != row and center is not None:
            raise ValueError(f"Expected no center for a first output of shape {self.shapes[0]}, which is not a row's.")
        self.register_buffer("center", center_of(center, width_of_loc, default=0.5 if sigmoid else 0.0))
        if sigmoid and not ((self.center >= 0) & (self.center <= 1)).all():
            raise ValueError(
                "Expected the center of a sigmoid output to lie between 0 and 1, actual "
                f"{self.center.min():g} to {self.center.max():g}: scale the data to [0, 1], or leave the sigmoid out."
            )
        self.n_latent = n_latent
        self.sigmoid = sigmoid
        self.deep, width = _hidden_layers(n_latent, hidden)
        self.loc = nn.Linear(width, width_of_loc)
        self.log_scale = nn.Linear(width, n_features) if self.shapes[1:2] == (row,) else None
        self.affine = affine_path_of(n_latent, width_of_loc, affine_path and bool(hidden))
        others = self.shapes[1 if self.log_scale is None else 2 :]
        self.others = nn.ModuleList(nn.Linear(width, math.prod(shape)) for shape in others)

    def forward(self, z: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Return the location of p(x | z), with two outputs the scale too, and the others if there are more.

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
        check_input("latent units", z, self.n_latent, self.center.dtype)
        features = self.deep(z)
        loc = self.loc(features)
        if self.affine is not None:
            loc = loc + self.affine(z)
        if self.sigmoid:
            loc = torch.sigmoid(loc + torch.logit(self.center, eps=_SIGMOID_MARGIN))
        else:
            loc = loc + self.center
        outputs = [loc]
        if self.log_scale is not None:
            outputs.append(bounded_scale(self.log_scale(features)))
        outputs += [other(features) for other in self.others]
        outputs = [
            each if len(shape) == 1 else each.reshape(each.shape[:-1] + shape)
            for each, shape in zip(outputs, self.shapes, strict=True)
        ]
        return tuple(outputs) if len(outputs) > 1 else outputs[0]


def _hidden_layers(n_inputs: int, hidden: Sequence[int]) -> tuple[nn.Sequential, int]:
    """Return the hidden layers, none for an empty `hidden`, and the width of the last."""
    widths = (n_inputs, *positive_ints("hidden", hidden))
    layers: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers), widths[-1]
