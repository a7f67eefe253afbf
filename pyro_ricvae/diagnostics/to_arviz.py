"""Draws, replicates, densities and data of a fitted pair as ArviZ has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyro_ricvae._core.arviz import Variable, from_groups
from pyro_ricvae._core.checks import check_finite, check_rows, positive_int
from pyro_ricvae._core.isolation import device_of, evaluation
from pyro_ricvae.data.scaling import Scaling
from pyro_ricvae.diagnostics.guide.weights import check_normalised
from pyro_ricvae.diagnostics.replicates.replicate import draw_prior_rows, draw_rows, rows_at_once, scale_for
from pyro_ricvae.likelihoods.likelihood import is_profile
from pyro_ricvae.pair import likelihood_name

LogLikelihood = Literal["auto", "profile"] | bool

# Standardised values beyond are not told apart: see RiCVAE.
_CLIPPED = 0.99e9
_SAMPLED = ("chain", "draw", "row")
_EVENT_DIMS = {1: ("feature",), 2: ("height", "width"), 3: ("height", "width", "channel")}


@dataclass(frozen=True)
class _Units:
    """The units, the shape and the type in which rows are given to ArviZ."""

    event_shape: tuple[int, ...]
    scaling: Scaling | None
    dtype: np.dtype[Any]

    def rows(self, rows: Tensor) -> NDArray[Any]:
        """Return rows (..., d) of the model as (..., *event_shape), in data units."""
        values = rows.numpy(force=True)
        restored = values if self.scaling is None else self.scaling.restore(values)
        return restored.reshape(*values.shape[:-1], *self.event_shape).astype(self.dtype, copy=False)

    def log_scale(self, distribution: Any) -> float:
        """Return what a log-density of a row is lower by in data units; a probability is the same in all units."""
        if self.scaling is None or distribution.support.is_discrete:
            return 0.0
        return float(np.log(self.scaling.scale).sum())


def to_arviz(
    model: Any,
    guide: Any,
    x: Tensor,
    *,
    n_draws: int = 100,
    log_likelihood: LogLikelihood = "auto",
    observed: Any = None,
    scaling: Scaling | None = None,
    dims: Sequence[str] | None = None,
    coords: Mapping[str, Any] | None = None,
    constant_data: Mapping[str, Any] | None = None,
    history: Sequence[Mapping[str, Any]] | None = None,
    attrs: Mapping[str, Any] | None = None,
    reference: Tensor | None = None,
    batch_size: int = 1024,
) -> Any:
    r"""Return draws, replicates and log-densities of a pair as ArviZ's container.

    ===================== ================================================== ===========================================
    group                 variables                                          dimensions
    ===================== ================================================== ===========================================
    posterior             z, drawn from q(z | x)                             chain, draw, row, latent
    posterior_predictive  x, one replicate for each of these z               chain, draw, row and those of a row
    prior_predictive      x, each of its own z from the prior                the same
    log_likelihood        x: log p(x_i | z), in nats                         chain, draw, row
    sample_stats          log_prior: log p(z); log_q: log q(z | x_i); where  chain, draw, row
                          there is a log-likelihood, lp: log p(x_i, z), and
                          log_weight: lp - log_q
    observed_data         x                                                  row and those of a row
    constant_data         what you give, and of a scaling center and scale   those of its shape
    training_history      what you give                                      look
    ===================== ================================================== ===========================================

    Memory is that of the result, mostly the replicates, two times n_draws times the size of x, and that of a chunk,
    whose rows take 64 MiB or are the draws of one row; hidden layers take more as they are wider than rows.

    Parameters
    ----------
    model, guide
        The pair.
    x : Tensor, shape (n, d)
        The rows, in the model's units.
    n_draws : int, default=100
        The number S of draws a row.
    log_likelihood : {"auto", "profile"} or bool, default="auto"
        Whether there is a group log_likelihood. "auto": where the likelihood is normalised and gives each row a density
        or a probability; if not, the attribute ``no_log_likelihood`` says why. "profile", of a profile likelihood
        alone: its value, which is no density over x, as ``profile_log_density`` in sample_stats, where
        ``arviz.loo`` and ``arviz.compare`` do not look.
    observed : array-like or Tensor, shape (n, *event_shape), optional
        The same rows in their own shape, such as (n, 28, 28), and units. By default `x`.
    scaling : Scaling, optional
        What was done to `observed` to give `x`: results are in the units of `observed` then. Without it they are in the
        model's.
    dims : sequence of str, optional
        The names of a row's dimensions, by default feature; height, width; height, width, channel.
    coords : mapping, optional
        From a dimension's name, such as row, latent or feature, to its coordinates.
    constant_data : mapping, optional
        From names to values: one a row (n,), or of the shape of one row, of all, or a single one. A tuple is taken for
        a pair (dimensions, values). Text will do, such as labels.
    history : sequence of mappings, optional
        What training looked like, such as ``Trainer.history``: one mapping a look.
    attrs : mapping, optional
        Numbers and text to note, such as settings.
    reference : Tensor, shape (m, d), optional
        The rows that a profile likelihood's scales of replication are aggregated over, by default `x`; see
        `diagnostics.replicate_scale`. They are in constant_data, as replication_scale.
    batch_size : int, default=1024
        The number of rows in a chunk at most; fewer where there are many draws.

    Returns
    -------
    arviz.InferenceData or xarray.DataTree
        The former with ArviZ 0.x, the latter with 1.x. ``.to_netcdf(path)`` and ``arviz.from_netcdf(path)`` work with
        both.

    Raises
    ------
    ValueError
        If an argument is not as said, or a log-likelihood is asked for where there is none.

    Notes
    -----
    The draws are independent, in one chain: R-hat, effective sample sizes and autocorrelations say nothing about them.
    What may be wrong is the guide, which shows in log_weight.

    Do not compare models by `arviz.loo` or `arviz.compare`. Each row has latents of its own, which without the row are
    at the prior, so that its importance weights fail (their Pareto k-hat is above 0.7): of 60 rows of a linear model
    with five units and its exact posterior, leave-one-out gives -611 nats where the evidence is -859. Use
    `importance_weighted_bound`, on rows that were not trained on.

    Random numbers come from torch's global generator.

    Examples
    --------
    >>> import torch
    >>> from pyro_ricvae import guides, likelihoods, models, networks, priors
    >>> from pyro_ricvae.diagnostics.to_arviz import to_arviz
    >>> model = models.VAE(networks.MLPDecoder(2, 6, ()), likelihoods.FixedNormal(1.0), priors.StandardNormal(2))
    >>> guide = guides.AmortizedNormal(networks.MLPEncoder(6, 2, ()))
    >>> data = to_arviz(model, guide, torch.zeros(8, 6), n_draws=5, observed=torch.zeros(8, 2, 3))
    >>> dict(data.posterior_predictive["x"].sizes)
    {'chain': 1, 'draw': 5, 'row': 8, 'height': 2, 'width': 3}
    """
    n_draws, batch_size = positive_int("n_draws", n_draws), positive_int("batch_size", batch_size)
    units, given = _observed(x, observed, scaling)
    event_dims = _event_dims(units.event_shape, dims)
    row_dims = ("row", *event_dims)
    density, why_none = _which_density(model, guide, x, log_likelihood)
    noise = scale_for(model, guide, x if reference is None else reference)
    constants = _constants(constant_data or {}, given.shape, row_dims)
    for name, values in _scales(scaling, noise).items():
        constants[name] = (event_dims, values.reshape(units.event_shape))
    arrays = _draw(model, guide, x, n_draws, density, noise, units, batch_size)
    groups: dict[str, dict[str, Variable]] = {
        "posterior": {"z": ((*_SAMPLED, "latent"), arrays.pop("z"))},
        "posterior_predictive": {"x": (("chain", "draw", *row_dims), arrays.pop("posterior"))},
        "prior_predictive": {"x": (("chain", "draw", *row_dims), arrays.pop("prior"))},
        "observed_data": {"x": (row_dims, given)},
    }
    if "log_likelihood" in arrays:
        groups["log_likelihood"] = {"x": (_SAMPLED, arrays.pop("log_likelihood"))}
    groups["sample_stats"] = {name: (_SAMPLED, values) for name, values in arrays.items()}
    if constants:
        groups["constant_data"] = constants
    if history:
        groups["training_history"] = _history(history)
    said = {"inference_library": "pyro_ricvae", "likelihood": likelihood_name(model), **(attrs or {})}
    if why_none:
        said["no_log_likelihood"] = why_none
    return from_groups(groups, coords or {}, {"/": said})


def _observed(x: Tensor, observed: Any, scaling: Scaling | None) -> tuple[_Units, NDArray[Any]]:
    """Return the units of rows `x`, and the rows in them, checked to be the same."""
    check_rows(x)
    check_finite(x)
    if x.dim() != 2:
        raise ValueError(f"Expected x of shape (rows, features), actual {tuple(x.shape)}: flatten all but the last.")
    rows = x.numpy(force=True)
    if observed is None:
        return _Units(rows.shape[1:], scaling, rows.dtype), rows if scaling is None else scaling.restore(rows)
    given = observed.numpy(force=True) if isinstance(observed, Tensor) else np.asarray(observed)
    if len(given) != len(rows) or given.size != rows.size:
        raise ValueError(
            f"Expected observed to be the rows x of shape {rows.shape}, each in its own shape: ({len(rows)}, "
            f"*event_shape), actual shape {given.shape}."
        )
    flat = given.reshape(rows.shape)
    standardised = flat if scaling is None else scaling.standardise(flat)
    wrong = (np.abs(standardised - rows) > 1e-3 * (1 + np.abs(rows))) & (np.abs(rows) < _CLIPPED)
    if wrong.any():
        raise ValueError(
            f"Expected x to be observed{'' if scaling is None else ', standardised'}, actual {int(wrong.sum())} of "
            f"{wrong.size} cells that differ: give the scaling that made x of observed, or leave both out."
        )
    dtype = np.result_type(given.dtype, np.float32)
    return _Units(given.shape[1:], scaling, np.dtype(np.float64) if dtype.itemsize > 8 else dtype), given


def _event_dims(event_shape: tuple[int, ...], dims: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of a row's dimensions."""
    if dims is None:
        return _EVENT_DIMS.get(len(event_shape), tuple(f"axis_{i}" for i in range(len(event_shape))))
    taken = (*_SAMPLED, "latent", "look")
    if (
        isinstance(dims, str)
        or len(set(dims)) != len(event_shape)
        or len(dims) != len(event_shape)
        or set(dims) & set(taken)
    ):
        raise ValueError(
            f"Expected dims to be {len(event_shape)} different names, for a row of shape {event_shape}, none of them "
            f"among {taken}, actual {dims!r}."
        )
    return tuple(dims)


def _scales(scaling: Scaling | None, noise: Tensor | None) -> dict[str, NDArray[Any]]:
    """Return what standardised the data, and the scales of a profile likelihood's replicates, in data units."""
    scales: dict[str, NDArray[Any]] = {} if scaling is None else {"center": scaling.center, "scale": scaling.scale}
    if noise is not None:
        scales["replication_scale"] = noise.numpy(force=True) * (1.0 if scaling is None else scaling.scale)
    return scales


def _which_density(
    model: Any, guide: Any, x: Tensor, log_likelihood: LogLikelihood
) -> tuple[Literal["log_likelihood", "profile_log_density"] | None, str]:
    """Return the name under which the likelihood's values are given, or None, and why there is no log-likelihood."""
    name = likelihood_name(model)
    if log_likelihood == "profile":
        if not is_profile(model):
            raise ValueError(
                f"Expected a profile likelihood for log_likelihood='profile', actual {name}, which is normalised: give "
                "log_likelihood=True."
            )
        return "profile_log_density", f"{name} is a profile likelihood."
    if log_likelihood is False:
        return None, "It was not asked for."
    if log_likelihood is not True and log_likelihood != "auto":
        raise ValueError(f"Expected log_likelihood to be 'auto', 'profile', True or False, actual {log_likelihood!r}.")
    try:
        check_normalised(model, guide, x, "A group log_likelihood")
    except ValueError as error:
        if log_likelihood == "auto":
            return None, str(error)
        way = " log_likelihood='profile' keeps its value, as sample_stats.profile_log_density." * is_profile(model)
        raise ValueError(f"{error}{way}") from error
    return "log_likelihood", ""


def _draw(
    model: Any,
    guide: Any,
    x: Tensor,
    n_draws: int,
    density: str | None,
    noise: Tensor | None,
    units: _Units,
    batch_size: int,
) -> dict[str, NDArray[Any]]:
    """Return draws, replicates and log-densities, each of shape (1, S, n, ...)."""
    arrays: dict[str, NDArray[Any]] = {}
    at_once = rows_at_once(batch_size, n_draws, x)
    device = device_of(guide)
    with evaluation(model, guide):
        for start in range(0, len(x), at_once):
            chunk = x[start : start + at_once].to(device)
            for name, values in _draw_chunk(model, guide, chunk, n_draws, density, noise, units).items():
                whole = arrays.setdefault(name, np.empty((1, n_draws, len(x), *values.shape[2:]), values.dtype))
                whole[0, :, start : start + at_once] = values
    return arrays


def _draw_chunk(
    model: Any, guide: Any, chunk: Tensor, n_draws: int, density: str | None, noise: Tensor | None, units: _Units
) -> dict[str, NDArray[Any]]:
    posterior = guide.encode(chunk)
    z = posterior.sample((n_draws,))
    log_densities: dict[str, Tensor] = {"log_prior": model.prior().log_prob(z), "log_q": posterior.log_prob(z)}
    if density is not None:
        distribution = model.decode(z, chunk)
        value = distribution.log_prob(chunk) - units.log_scale(distribution)
        log_densities[density] = value
        if density == "log_likelihood":
            log_densities["lp"] = value + log_densities["log_prior"]
            log_densities["log_weight"] = log_densities["lp"] - log_densities["log_q"]
    return {
        "z": z.numpy(force=True),
        "posterior": units.rows(draw_rows(model, z, noise)),
        "prior": units.rows(draw_prior_rows(model, n_draws, len(chunk), noise)),
    } | {name: values.numpy(force=True) for name, values in log_densities.items()}


def _constants(given: Mapping[str, Any], shape: tuple[int, ...], dims: tuple[str, ...]) -> dict[str, Variable]:
    """Return constant data with their dimensions, found by their shapes; `shape` and `dims` are those of the rows."""
    known = {(): (), shape[1:]: dims[1:], shape[:1]: dims[:1], shape: dims}
    found: dict[str, Variable] = {}
    for name, value in given.items():
        if name in ("center", "scale", "replication_scale"):
            raise ValueError(f"Expected other names in constant_data than {name!r}, which is taken: rename it.")
        if isinstance(value, tuple) and len(value) == 2:
            found[name] = ((value[0],) if isinstance(value[0], str) else tuple(value[0]), np.asarray(value[1]))
            continue
        array = value.numpy(force=True) if isinstance(value, Tensor) else np.asarray(value)
        if array.shape not in known:
            raise ValueError(
                f"Expected constant_data[{name!r}] to be of one of the shapes {list(known)}, actual {array.shape}: for "
                "another give a pair (dimensions, values)."
            )
        found[name] = (known[array.shape], array)
    return found


def _history(history: Sequence[Mapping[str, Any]]) -> dict[str, Variable]:
    names = dict.fromkeys(name for entry in history for name in entry)
    return {name: (("look",), np.asarray([entry.get(name, np.nan) for entry in history])) for name in names}
