"""What likelihoods with one scale for all cells have in common."""

from torch import Tensor, nn

from pyro_ricvae._core.checks import positive_finite
from pyro_ricvae.likelihoods.likelihood import Likelihood

# Of the scale it starts from: a learned scale stays above this share, as a density is unbounded where a residual is 0.
_SMALLEST = 0.01


class ScaledLikelihood(Likelihood):
    """A likelihood with one scale for all cells, constant or learned by gradient.

    Parameters
    ----------
    scale : float
        The scale, in data units, positive and finite: the constant, or where a learned one starts.
    learn_scale : bool, default=False
        Whether the scale is a parameter, trained with the networks. It stays above a hundredth of where it starts.

    Attributes
    ----------
    scale : Tensor, shape ()
        A buffer, changed in place: the constant; with `learn_scale`, a hundredth of which is the bound.
    log_scale : torch.nn.Parameter, shape (), or None
        Only with `learn_scale`: the logarithm of the learned scale above its bound.

    Raises
    ------
    ValueError
        If `scale` is not positive and finite.
    """

    scale: Tensor

    def __init__(self, scale: float, *, learn_scale: bool = False) -> None:
        super().__init__()
        self.register_buffer("scale", positive_finite("scale", scale))
        start = ((1 - _SMALLEST) * self.scale).log()
        self.log_scale = nn.Parameter(start) if learn_scale else None

    def current_scale(self) -> Tensor:
        """Return the scale in use, constant or learned, of shape ()."""
        return self.scale if self.log_scale is None else _SMALLEST * self.scale + self.log_scale.exp()
