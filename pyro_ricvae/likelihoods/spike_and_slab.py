"""The spike and slab likelihood: each cell is clean, with one variance for all, or has a variance of its own."""

import math
from typing import Any, ClassVar, Literal

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor

from pyro_ricvae._core.checks import positive_finite
from pyro_ricvae.likelihoods.clean_or_dirty import SpikeAndSlabDistribution, maximised
from pyro_ricvae.likelihoods.index_conditioned_normal import index_conditioned
from pyro_ricvae.likelihoods.likelihood import Ends, Likelihood, ends_of, in_precision_of
from pyro_ricvae.pair import Switch

# Of the running estimates, a step.
_MOMENTUM = 0.02
# The largest scale of clean cells while the log penalty stays, in ends of the floor.
_LARGEST = 1.0
# Bounds of the share of dirty cells.
_FEWEST, _MOST = 0.001, 0.95


class _TakingOver(SpikeAndSlabDistribution):
    """The same in training: the index-conditioned likelihood until it takes over, then with a broader spike."""

    def __init__(
        self, *parts: Tensor, x: Tensor, floor: Tensor, has_taken_over: Tensor, broad: Tensor, clean_df: float | None
    ) -> None:
        super().__init__(*parts, clean_df=clean_df, validate_args=False)
        self._own: dict[str, Any] = {"x": x, "floor": floor, "has_taken_over": has_taken_over, "broad": broad}

    def expand(self, batch_shape: Any, _instance: Any = None) -> "_TakingOver":
        return _TakingOver(*self._expanded(batch_shape), **self._own, clean_df=self.clean_df)

    def log_prob(self, value: Tensor) -> Tensor:
        before = index_conditioned(self.loc, value, self._own["floor"]).log_prob(value)
        after = torch.logaddexp(*self._log_joint_at(value, self._own["broad"]))
        return torch.where(self._own["has_taken_over"], after, before)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Return draws as the paper's (equation 15), with a variance that is conditioned on the row: of a next pass."""
        x = self._own["x"]
        squares, dirty = (x - self.loc).square(), self.dirt_probability(x)
        after = (1 - dirty) * self.scale.square() + dirty * squares
        variance = torch.where(self._own["has_taken_over"], after, squares.maximum(self._own["floor"].square()))
        shape = self._extended_shape(torch.Size(sample_shape))
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + variance.sqrt() * noise


class SpikeAndSlab(Likelihood):
    r"""A mixture in which each cell is clean, with one scale for all, or dirty, with a variance of its own.

    With residual :math:`r_j = x_j - \mu_j`

    .. math:: p(x_j \mid z) = (1 - \pi)\, t_\nu(r_j \mid 0, s)
        + \pi \int \mathcal N(r_j \mid 0, v)\, \mathrm{IG}(v \mid a, b^2 / 2)\, dv.

    The slab is the paper's log penalty as a proper density, `InverseGammaNormal`'s: a dirty cell pulls by
    :math:`(2a + 1) / r_j`. The spike has one scale for all cells, as `SharedNormal`. So :math:`\pi \to 1` is the
    penalty of the iC-VAE, :math:`\pi \to 0` a VAE with one learned scale. Scale and share come in closed form, as the
    paper's variance does (equation 7), by a running step of EM on each batch in the first pass.

    In training the index-conditioned likelihood, with its floor, stands in its place until the share `takeover` of the
    training is over, and after that at each step at which the scale that EM finds without a bound, which it follows
    from then on, is above `widest` ends of the floor. 2.5 ends of an automatic floor are the typical distance of a
    value from its feature's centre: where pixels that are called clean are spread as widely as the data, dirt is among
    them, and the log penalty stays.

    A narrow spike gives up what the networks do not fit yet. So its scale in training may be `broadening` times s, up
    to `broadest`: of a normal, the power (s / scale)^2 of its density, normalised. Estimates, probabilities and the
    density in evaluation mode go by s.

    Parameters
    ----------
    floor : float or tuple of float
        The resolution s0 of the data, in data units: positive and finite. Two are where it starts and where it ends in
        training; see `Likelihood.schedule`. b is `ratio` ends.
    ratio : float, default=10.0
        How wide dirt is, in ends of the floor.
    shape : float, default=0.1
        The shape a: positive and finite.
    takeover : float, default=0.1
        The share of the training before which the mixture does not take over.
    widest : float, default=2.5
        The scale of clean cells, in ends of the floor, from which on the mixture does not take over. Of tables whose
        columns have little to do with each other no model makes clean cells much narrower than the data, and they need
        3.7, about the robust standard deviation of a column.
    narrowest : float, default=0.02
        The smallest scale of clean cells, in ends of the floor. Where many residuals are 0, as in images that are black
        for the most part, it would fall to 0, and all that is not black be dirt: 0.5 for images.
    broadening : float, default=1.0
        What s is multiplied by in training, once the mixture has taken over: 1 or more, 1.5 for images.
    broadest : float, default=1.0
        The scale, in ends of the floor, up to which it is: what is as broad is trained with as it is.
    clean_df : float, optional
        The degrees of freedom :math:`\nu` of a clean cell's Student-t: clean values of tables have longer tails than a
        normal has, and are taken for dirt by one. None is a normal, of standard deviation s.
    draws : bool, default=False
        Whether the next pass of training gets a draw, as the paper's, with the variance :math:`v^* = (1 - w) s^2 + w
        r^2`, w the probability that a cell is dirty, and not the repaired row. At test time rows are always repaired.

    Attributes
    ----------
    scale, share : Tensor, shape ()
        Buffers: s, in data units, and :math:`\pi`.
    spread, spread_share : Tensor, shape ()
        Buffers: the same, but for the bound that the scale has, one end of the floor, while the log penalty stays.
    floor, mixed, shape : Tensor, shape ()
        Buffers; `mixed` is 0 before `takeover` and 1 from there on, and 1 where no `inference.Trainer` sets it.
    schedule : dict
        The ends of the floor, and when `mixed` changes.
    first_pass : bool
        Whether scale and share follow a batch in training; `inference.RecyclingELBO` unsets it in later passes.

    Raises
    ------
    ValueError
        If a number is not positive and finite, `takeover` is not between 0 and 1, or `broadening` is below 1.

    Notes
    -----
    In evaluation mode it is the proper density, always. While the log penalty stands in its place, the loss is not one;
    after that it is that of the broader spike.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae.likelihoods import SpikeAndSlab
    >>> likelihood = SpikeAndSlab(floor=0.1).eval()
    >>> x = torch.tensor([[0.0, 0.3, 3.0]])
    >>> likelihood.dirt_probability(likelihood(torch.zeros(1, 3), x), x)
    tensor([[0.0217, 0.6543, 1.0000]])
    """

    recycle: ClassVar[Literal["sample", "mean", "repair"]] = "repair"
    estimates: ClassVar[tuple[str, ...]] = ("scale", "share", "spread")
    floor: Tensor
    mixed: Tensor
    scale: Tensor
    share: Tensor
    spread: Tensor
    spread_share: Tensor
    shape: Tensor

    def __init__(
        self,
        floor: float | Ends,
        *,
        ratio: float = 10.0,
        shape: float = 0.1,
        takeover: float = 0.1,
        widest: float = 2.5,
        narrowest: float = 0.02,
        broadening: float = 1.0,
        broadest: float = 1.0,
        clean_df: float | None = None,
        draws: bool = False,
    ) -> None:
        super().__init__()
        self.draws = draws
        self.clean_df = None if clean_df is None else float(positive_finite("clean_df", clean_df))
        start, end = ends_of("floor", floor)
        self.ratio = float(positive_finite("ratio", ratio))
        self.widest = float(positive_finite("widest", widest))
        self.narrowest = float(positive_finite("narrowest", narrowest))
        self.broadening = float(positive_finite("broadening", broadening))
        self.broadest = float(positive_finite("broadest", broadest))
        if self.broadening < 1:
            raise ValueError(f"Expected broadening to be 1 or more, actual {broadening!r}.")
        self.schedule = {"floor": (start, end), "mixed": Switch(takeover)}
        self.register_buffer("floor", torch.tensor(start))
        self.register_buffer("mixed", torch.tensor(1.0))
        self.register_buffer("shape", positive_finite("shape", shape))
        for name, value in (("scale", end), ("share", 0.5), ("spread", end), ("spread_share", 0.5)):
            self.register_buffer(name, torch.tensor(value))
        self.first_pass = True

    def forward(
        self, decoder_output: Tensor, x: Tensor | None = None, observed: Tensor | None = None
    ) -> TorchDistribution:
        """Return the mixture for every cell; in training with its broader spike, and (8') before it takes over.

        See `Likelihood.forward`.
        """
        loc = in_precision_of(x, decoder_output)
        in_training = self.training and x is not None
        if in_training and self.first_pass:
            self.follow((x - loc).detach().square(), observed)  # type: ignore[operator]
        # A backward to come needs the values that the loss was computed with, and the next batch changes the buffers.
        scale, share = (self.scale.clone(), self.share.clone()) if in_training else (self.scale, self.share)
        parts = (loc, scale, share, self._width(), self.shape)
        if not in_training:
            return SpikeAndSlabDistribution(*parts, clean_df=self.clean_df)
        has_taken_over = (self.mixed > 0) & self._explains(self.spread)
        broad = (self.broadening * scale).clamp_max(self.broadest * self._end).maximum(scale)
        given: Any = {"x": x, "floor": self.floor, "has_taken_over": has_taken_over, "broad": broad}
        return _TakingOver(*parts, **given, clean_df=self.clean_df)

    def dirt_probability(self, cells: TorchDistribution, x: Tensor) -> Tensor:
        """Return the probability that a cell is dirty, given the distribution that `forward` returned.

        Parameters
        ----------
        cells : TorchDistribution, batch shape (..., B, d)
            As `forward` returned it, for these rows or for repaired ones.
        x : Tensor, shape (..., B, d)
            The rows.

        Returns
        -------
        Tensor, shape (..., B, d)
            Between 0 and 1.
        """
        given: Any = cells
        probability: Tensor = given.dirt_probability(x)
        return probability

    @property
    def recycle_in_training(self) -> Literal["sample", "repair"]:
        """How a pass of training feeds the next one."""
        return "sample" if self.draws else "repair"

    @property
    def explains(self) -> bool:
        """Whether clean cells lie closer to their locations than values do to their feature's centre."""
        return bool(self._explains(self.spread))

    def _explains(self, spread: Tensor) -> Tensor:
        return spread <= self.widest * self._end

    @property
    def _end(self) -> float:
        ends: Any = self.schedule["floor"]
        return float(ends[1])

    def _width(self) -> Tensor:
        return self.scale.new_tensor(self.ratio * self._end)

    @torch.no_grad()
    def follow(self, squares: Tensor, observed: Tensor | None = None, *, momentum: float = _MOMENTUM) -> None:
        """Move scale and share by a step of EM; another one, with a bound on the scale, while nothing is explained.

        Parameters
        ----------
        squares : Tensor
            Squared residuals of cells, in squared data units.
        observed : Tensor of bool, optional
            Which of them count.
        momentum : float, default=0.02
            How far, between 0 and 1.
        """
        squares = squares.to(self.scale.dtype)
        bound = self.scale.new_tensor(_LARGEST * self._end)
        # Without a bound, and while residuals are still wide, EM may end where dirt is clean, and stay there.
        since_takeover = torch.where(self.mixed > 0, math.inf, bound)
        free = self._moved(self.spread, self.spread_share, squares, observed, since_takeover, momentum)
        bounded = self._moved(self.scale, self.share, squares, observed, bound, momentum)
        explains = self._explains(free[0])
        self.spread.copy_(free[0])
        self.spread_share.copy_(free[1])
        self.scale.copy_(torch.where(explains, free[0], bounded[0]))
        self.share.copy_(torch.where(explains, free[1], bounded[1]))

    def _moved(
        self, scale: Tensor, share: Tensor, squares: Tensor, observed: Tensor | None, largest: Tensor, momentum: float
    ) -> tuple[Tensor, Tensor]:
        new_scale, new_share = maximised(squares, scale, share, self._width(), self.shape, observed, self.clean_df)
        new_scale = new_scale.clamp_min(self.narrowest * self._end).minimum(largest)
        return scale.lerp(new_scale, momentum), share.lerp(new_share.clamp(_FEWEST, _MOST), momentum)
