"""The one place that knows ArviZ, both 0.x (``InferenceData``) and 1.x (``xarray.DataTree``).

Takes NumPy arrays, and imports neither torch nor Pyro. What ArviZ reads and writes alike in both is not wrapped:
``data.to_netcdf(path)``, ``arviz.from_netcdf(path)``, ``arviz.loo(data)``.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyro_ricvae._core.extras import extra

# A variable: the names of its dimensions, and its values.
Variable = tuple[Sequence[str], NDArray[Any]]

# ArviZ 1.x finds too few draws in the tail of fewer.
_LEAST_DRAWS = 30


def from_groups(
    groups: Mapping[str, Mapping[str, Variable]],
    coords: Mapping[str, Any],
    attrs: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:
    """Return groups of named arrays as ArviZ's container.

    Parameters
    ----------
    groups : mapping
        From a group's name to its variables, each a pair of dimensions' names and values.
    coords : mapping
        From a dimension's name to its coordinates, one for each place along it, for all groups that have it. Dimensions
        without are numbered from 0. What is neither a number nor a date is written out as text.
    attrs : mapping, optional
        From a group's name to its attributes: numbers and text. "/" is the whole.

    Returns
    -------
    arviz.InferenceData or xarray.DataTree
        The former with ArviZ 0.x, the latter with 1.x.

    Raises
    ------
    ValueError
        If a variable has not as many dimensions as names, a dimension has two lengths, or coordinates are not as long
        as their dimension, or of a dimension that there is not.

    Examples
    --------
    >>> import numpy as np
    >>> from pyro_ricvae._core.arviz import from_groups
    >>> data = from_groups({"posterior": {"z": (("chain", "draw"), np.zeros((1, 4)))}}, {"draw": list("abcd")})
    >>> data.posterior["z"].shape, str(data.posterior["draw"].values[2])
    ((1, 4), 'c')
    """
    with extra("arviz"):
        from xarray import Dataset

    lengths = _lengths(groups)
    labels = {name: _plain(values) for name, values in coords.items()}
    for name, values in labels.items():
        if name not in lengths:
            raise ValueError(
                f"Expected coordinates of the dimensions {sorted(lengths)}, actual ones of {name!r}: rename them, or "
                "leave them out."
            )
        if values.shape != (lengths[name],):
            raise ValueError(
                f"Expected {lengths[name]} coordinates for the dimension {name!r}, actual an array of shape "
                f"{values.shape}: give one for each place along it."
            )
    attrs = attrs or {}
    datasets = {}
    for group, variables in groups.items():
        dims = {dim for names, _ in variables.values() for dim in names}
        datasets[group] = Dataset(
            {name: (tuple(names), _plain(values)) for name, (names, values) in variables.items()},
            coords={dim: labels.get(dim, np.arange(lengths[dim])) for dim in dims},
            attrs=dict(attrs.get(group, {})),
        )
    return _container(datasets, attrs.get("/", {}))


def pareto_k(log_weights: NDArray[Any]) -> NDArray[np.float64]:
    """Return the Pareto k-hat of the importance weights in each column (Vehtari et al., 2024).

    Parameters
    ----------
    log_weights : ndarray, shape (S, n)
        Log-weights of S draws, not normalised; -inf is a weight of 0.

    Returns
    -------
    ndarray of float64, shape (n,)
        The shape of the tail of the largest weights: above about 0.7 an average under the weights is not to be trusted.
        inf where there is no tail to fit, because a few draws have all the weight; -inf where the largest weights are
        all the same.

    Raises
    ------
    ValueError
        If there are fewer than 30 draws, or log-weights are NaN or +inf.
    """
    weights = np.array(log_weights, dtype=np.float64)
    if weights.ndim != 2 or len(weights) < _LEAST_DRAWS:
        raise ValueError(
            f"Expected log-weights of {_LEAST_DRAWS} draws or more, one column a row of the data, actual shape "
            f"{weights.shape}: a Pareto tail cannot be fitted to fewer. Take more draws."
        )
    if np.isnan(weights).any() or np.isposinf(weights).any():
        wrong = int((np.isnan(weights) | np.isposinf(weights)).any(axis=0).sum())
        raise ValueError(
            f"Expected log-weights that are finite or -inf, actual NaN or inf in {wrong} of {weights.shape[1]} "
            "columns: a log-density overflows there."
        )
    tail = math.ceil(min(len(weights) / 5, 3 * math.sqrt(len(weights))))
    largest = np.partition(weights, len(weights) - tail, axis=0)[-tail:]
    least, most = largest.min(axis=0), largest.max(axis=0)
    result = np.where((least == most) & np.isfinite(most), -np.inf, np.inf)  # ArviZ cannot fit these
    varied = (least < most) & np.isfinite(most)
    if varied.any():
        k = _fitted_k(weights[:, varied])
        result[varied] = np.where(np.isnan(k), np.inf, k)
    return result


def _fitted_k(log_weights: NDArray[np.float64]) -> NDArray[np.float64]:
    arviz = import_arviz()
    with np.errstate(all="ignore"):  # the fit overflows where the tail is thin: NaN then
        if _is_old(arviz):
            k: NDArray[np.float64] = arviz.psislw(log_weights.T)[1]
        else:
            from arviz_stats.base import array_stats

            k = array_stats.psislw(-log_weights, axis=0)[1]  # it takes log-likelihoods, and negates them
    return k


def plot_ppc(
    data: Any, *, group: str = "posterior_predictive", coords: Mapping[str, Any] | None = None, n_draws: int = 50
) -> Any:
    """Return ArviZ's picture of the distribution of replicated data beside that observed, over all cells.

    Parameters
    ----------
    data : arviz.InferenceData or xarray.DataTree
        With the groups `group` and ``observed_data``.
    group : {"posterior_predictive", "prior_predictive"}, default="posterior_predictive"
        The replicated data.
    coords : mapping, optional
        From a dimension's name to the coordinates to look at, such as ``{"feature": "age"}``: columns in different
        units are better looked at one by one. By default all.
    n_draws : int, default=50
        How many draws are shown at most; evenly spaced ones.

    Returns
    -------
    matplotlib.figure.Figure
        Not one of pyplot's: ``figure.savefig(path)`` writes it.
    """
    from matplotlib import MatplotlibDeprecationWarning
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if group not in ("posterior_predictive", "prior_predictive"):
        raise ValueError(f"Expected group to be 'posterior_predictive' or 'prior_predictive', actual {group!r}.")
    arviz = import_arviz()
    replicated, observed = (_dataset(data, name).sel(dict(coords or {})) for name in (group, "observed_data"))
    drawn = replicated.sizes["draw"]
    shown = np.linspace(0, drawn - 1, min(n_draws, drawn)).astype(int)
    few = _container({group: replicated.isel(draw=shown), "observed_data": observed}, {})
    if _is_old(arviz):
        figure = Figure(figsize=(7, 4), layout="constrained")
        FigureCanvasAgg(figure)
        with warnings.catch_warnings():  # of matplotlib 3.11, which ArviZ 0.23 is not made for
            warnings.simplefilter("ignore", MatplotlibDeprecationWarning)
            arviz.plot_ppc(
                few, group=group.removesuffix("_predictive"), ax=figure.subplots(), observed=True, show=False
            )
        return figure
    from matplotlib import pyplot

    collection = arviz.plot_ppc_dist(
        few, group=group, num_samples=len(shown), visuals={"observed_dist": {}}, backend="matplotlib"
    )
    figure = collection.viz["figure"].item()
    pyplot.close(figure)
    FigureCanvasAgg(figure)
    return figure


def import_arviz() -> Any:
    """Return ArviZ, without the announcement that 0.23 makes as a warning, once a day."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="\nArviZ is undergoing", category=FutureWarning)
        with extra("arviz"):
            import arviz
    return arviz


def _is_old(arviz: Any) -> bool:
    return int(arviz.__version__.split(".")[0]) < 1


def _container(datasets: Mapping[str, Any], attrs: Mapping[str, Any]) -> Any:
    arviz = import_arviz()
    if _is_old(arviz):
        return arviz.InferenceData(attrs=dict(attrs), **datasets)
    from xarray import DataTree

    tree = DataTree.from_dict(dict(datasets))
    tree.attrs = dict(attrs)
    return tree


def _dataset(data: Any, group: str) -> Any:
    from xarray import Dataset

    found = data[group]
    return found if isinstance(found, Dataset) else found.to_dataset()


def _lengths(groups: Mapping[str, Mapping[str, Variable]]) -> dict[str, int]:
    """Return the length of each dimension."""
    lengths: dict[str, int] = {}
    for group, variables in groups.items():
        for name, (dims, values) in variables.items():
            shape = np.shape(values)
            if len(shape) != len(dims):
                raise ValueError(
                    f"Expected {group}.{name} to have the dimensions {tuple(dims)}, actual an array of shape {shape}."
                )
            for dim, length in zip(dims, shape, strict=True):
                if lengths.setdefault(dim, length) != length:
                    raise ValueError(
                        f"Expected {group}.{name} to be of length {lengths[dim]} along {dim!r}, as elsewhere, actual "
                        f"{length}."
                    )
    return lengths


def _plain(values: Any) -> NDArray[Any]:
    """Return values as numbers, dates or text, which is what netCDF holds."""
    array = np.asarray(values)
    if array.dtype.kind in "biufmMU":
        return array
    text: NDArray[Any] = np.array([str(value) for value in array.ravel()], dtype=np.str_).reshape(array.shape)
    return text
