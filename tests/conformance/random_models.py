"""Random models and guides, as descriptions: plain values that print as Python and shrink to simpler ones.

`random_draws.describe` draws one; `random_source.source` writes it as the module that a user would have written.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

SCALARS = ("normal", "lognormal", "gamma", "beta", "laplace", "studentt", "halfnormal", "point")
DISCRETE = ("bernoulli", "categorical")
VECTORS = ("dirichlet", "mvn", "normal3")
OBSERVED = ("normal", "bernoulli", "poisson", "studentt", "laplace", "gamma", "lognormal", "beta", "categorical")
OBSERVED += ("exponential", "negative_binomial", "dirichlet", "zero_inflated")
HOLDERS = ("attribute", "cell", "global", "dict", "list", "class", "dataclass", "default", "function")
NUMBERS = ("network", "network", "property", "callable", "tensor", "buffer", "numpy", "argument", "tensor argument")
PATTERNS = ("constant", "once", "seldom", "drifts", "tiny", "alternates", "late")
NETWORKS = (
    "none",
    "softplus",
    "relu",
    "dropout",
    "batchnorm",
    "layernorm",
    "weightnorm",
    "spectralnorm",
    "own",
    "bayesian",
)
AUTO = ("auto_normal", "auto_delta", "auto_diagonal", "auto_mvn", "auto_lowrank")
OBJECTIVES = ("trace", "meanfield", "enum", "renyi", "graph", "rws", "by hand", "differentiable", "penalised")
EFFECTS = ("counter", "log of lengths", "log of items", "log of tensors", "average", "in place", "replaced", "cached")
EFFECTS += ("cached by length", "lru_cache", "iterator", "warning", "deque", "clipped", "argument")
RANDOM = ("randn", "randn_like", "dropout", "randperm", "python", "numpy", "generator", "numpy generator", "unguided")
RANDOM += ("python branch", "torch branch")
BRANCHES = ("item", "value", "data", "length", "name", "while", "training", "isnan", "parameter", "numpy", "selected")
BRANCHES += ("tolist", "grad", "lookup", "store", "autograd")
ARGUMENTS = ("flag", "optional mask", "label", "partial", "changing partial", "lambda", "changing lambda", "config")
ARGUMENTS += ("keyword", "nested", "namedtuple", "array", "count", "strided", "leaf", "closed over")
EVENTS = ("eval", "layer", "network", "freeze", "clear", "load", "weights", "load weights", "parameter", "validation")
EVENTS += ("particles", "learning rate", "seed", "nan", "outside", "missing argument", "columns", "double", "infinite")
EVENTS += ("hook", "forward", "rate")
HANDLERS = ("mask", "mask of values", "scale", "scale of rows", "obs_mask", "factor", "deterministic", "wrapped")
HANDLERS += ("reparam", "own mask")
OF_NETWORKS = ("eval", "layer", "network", "freeze", "weights", "load weights", "parameter", "hook", "forward", "rate")
RAISING = ("outside", "missing argument", "columns", "double", "nan", "infinite")


class _Short:
    """Print only what is not as by default."""

    def __repr__(self) -> str:
        fields: Any = dataclasses.fields(self)  # type: ignore[arg-type]
        said = [f"{f.name}={getattr(self, f.name)!r}" for f in fields if getattr(self, f.name) != f.default]
        return f"{type(self).__name__}({', '.join(said)})"


@dataclass(frozen=True, repr=False)
class Latent(_Short):
    """A latent site.

    Attributes
    ----------
    family : str
    local : bool
        Whether each row has one.
    use : {"add", "times", "decoded"}
        How it enters the mean: the last by a network.
    child : bool
        Whether the latent before is the mean of its prior.
    summed : {"", "model", "guide", "sequential"}
        Where it is marked for enumeration.
    """

    family: str = "normal"
    local: bool = False
    use: str = "add"
    child: bool = False
    summed: str = ""


@dataclass(frozen=True, repr=False)
class Number(_Short):
    """A number that the user holds somewhere, changes between steps, and the model or the guide reads."""

    holder: str = "attribute"
    pattern: str = "constant"
    use: str = "times"


@dataclass(frozen=True, repr=False)
class Effect(_Short):
    """What the model itself writes: where it holds that, and whether it reads it too."""

    kind: str
    holder: str = "attribute"
    read: bool = False


@dataclass(frozen=True, repr=False)
class Description(_Short):
    """A model, a guide and their training; see `random_draws.describe` for what values there are."""

    form: str = "closures"
    plate: str = "one"
    lengths: tuple[int, ...] = (8,)
    columns: int = 2
    latents: tuple[Latent, ...] = ()
    observed: str = "normal"
    also_observed: str = ""
    learnt_noise: bool = False
    handler: str = ""
    network: str = "none"
    guide: str = "by hand"
    objective: str = "trace"
    particles: int = 1
    vectorised: bool = False
    nesting_given: bool = False
    optimizer: str = "adam"
    number: Number | None = None
    effect: Effect | None = None
    random: str = ""
    branch: str = ""
    arguments: tuple[str, ...] = ()
    data: str = "same"
    event: str = ""
    event_step: int = 5
    evaluated: int = 0
    second_svi: bool = False

    @property
    def depth(self) -> int:
        """How many plates are nested."""
        return {"one": 1, "subsampled": 1, "given": 1, "nested": 2}.get(self.plate, 0)

    @property
    def auto(self) -> bool:
        """Whether the guide is an automatic one."""
        return self.guide in AUTO

    @property
    def enumerates(self) -> bool:
        """Whether any site is marked for enumeration."""
        return self.plate == "markov" or any(latent.summed for latent in self.latents)
