"""What the sources of random models are made of: lines of Python, by the names of `random_models`."""

ROWS = 24  # that there are
NESTED = 3  # columns of nested plates

IMPORTS = """\
import collections
import copy
import dataclasses
import functools
import itertools
import random
import types
import warnings

import numpy as np
import pyro
import pyro.distributions as dist
import torch
from conformance.harness import Setup
from pyro import poutine
from pyro.infer import ReweightedWakeSleep, RenyiELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO
from pyro.infer import autoguide
from pyro.infer.reparam import LocScaleReparam
from pyro.nn import PyroModule, PyroParam, PyroSample
from torch import nn
from torch.nn.functional import softplus

constraints = dist.constraints
"""

PRIORS = {
    "normal": "dist.Normal({loc}, {scale})",
    "point": "dist.Normal({loc}, {scale})",
    "laplace": "dist.Laplace({loc}, {scale})",
    "studentt": "dist.StudentT(4.0, {loc}, {scale})",
    "lognormal": "dist.LogNormal(0.0, 0.5 * {scale})",
    "gamma": "dist.Gamma(2.0, 2.0 * {scale})",
    "beta": "dist.Beta(2.0, 2.0 * {scale})",
    "halfnormal": "dist.HalfNormal({scale})",
    "bernoulli": "dist.Bernoulli(0.4)",
    "categorical": "dist.Categorical(torch.tensor([0.2, 0.3, 0.5]))",
    "dirichlet": "dist.Dirichlet(torch.ones(3))",
    "mvn": "dist.MultivariateNormal(torch.zeros(3), torch.eye(3))",
    "normal3": "dist.Normal(torch.zeros(3), {scale}).to_event(1)",
}

# By two real numbers, or three of each.
POSTERIORS = {
    "normal": "dist.Normal({a}, softplus({b}))",
    "point": "dist.Delta({a})",
    "laplace": "dist.Laplace({a}, softplus({b}))",
    "studentt": "dist.Normal({a}, softplus({b}))",
    "lognormal": "dist.LogNormal({a}, softplus({b}))",
    "gamma": "dist.Gamma(softplus({a}) + 1.0, softplus({b}) + 1.0)",
    "beta": "dist.Beta(softplus({a}) + 1.0, softplus({b}) + 1.0)",
    "halfnormal": "dist.LogNormal({a}, softplus({b}))",
    "bernoulli": "dist.Bernoulli(logits={a})",
    "categorical": "dist.Categorical(logits=torch.stack([{a}, {b}, 0.0 * {b}], -1))",
    "dirichlet": "dist.Dirichlet(softplus({a}) + 0.5)",
    "mvn": "dist.MultivariateNormal({a}, scale_tril=torch.diag_embed(softplus({b})))",
    "normal3": "dist.Normal({a}, softplus({b})).to_event(1)",
}

# The distribution, the data, and a value outside its support.
OBSERVED = {
    "normal": ("dist.Normal({mu}, {s})", "torch.randn({n})", 'float("nan")'),
    "studentt": ("dist.StudentT(4.0, {mu}, {s})", "torch.randn({n})", 'float("nan")'),
    "laplace": ("dist.Laplace({mu}, {s})", "torch.randn({n})", 'float("nan")'),
    "bernoulli": ("dist.Bernoulli(logits={mu})", "torch.bernoulli(torch.full(({n},), 0.4))", "2.0"),
    "poisson": ("dist.Poisson({mu}.clamp(-3.0, 3.0).exp())", "torch.poisson(torch.ones({n}))", "-1.0"),
    "gamma": ("dist.Gamma(2.0, {mu}.clamp(-3.0, 3.0).exp())", "(torch.rand({n}) + 0.1)", "-1.0"),
    "lognormal": ("dist.LogNormal({mu}, {s})", "(torch.rand({n}) + 0.1)", "-1.0"),
    "beta": ("dist.Beta(softplus({mu}) + 0.5, 2.0)", "(0.1 + 0.8 * torch.rand({n}))", "2.0"),
    "categorical": (
        "dist.Categorical(logits=torch.stack([{mu}, 0.0 * {mu}, -{mu}], -1))",
        "torch.randint(0, 3, ({n},))",
        "7",
    ),
    "exponential": ("dist.Exponential({mu}.clamp(-3.0, 3.0).exp())", "(torch.rand({n}) + 0.1)", "-1.0"),
    "negative_binomial": ("dist.NegativeBinomial(5.0, logits={mu})", "torch.poisson(torch.ones({n}))", "-1.0"),
    "dirichlet": (
        "dist.Dirichlet(softplus(torch.stack([{mu}, 0.0 * {mu}, -{mu}], -1)) + 0.5)",
        "torch.softmax(torch.randn({n}, 3), -1)",
        "2.0",
    ),
    "zero_inflated": (
        "dist.ZeroInflatedPoisson({mu}.clamp(-3.0, 3.0).exp(), gate=torch.tensor(0.2))",
        "torch.poisson(torch.ones({n}))",
        "-1.0",
    ),
}

NETWORKS = {
    "softplus": "nn.Sequential(nn.Linear({c}, 4), nn.Softplus(), nn.Linear(4, 1))",
    "relu": "nn.Sequential(nn.Linear({c}, 4), nn.ReLU(), nn.Linear(4, 1))",
    "dropout": "nn.Sequential(nn.Linear({c}, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 1))",
    "batchnorm": "nn.Sequential(nn.Linear({c}, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 1))",
    "layernorm": "nn.Sequential(nn.Linear({c}, 4), nn.LayerNorm(4), nn.SiLU(), nn.Linear(4, 1))",
    "weightnorm": "nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear({c}, 4)), nn.Tanh(), nn.Linear(4, 1))",
    "spectralnorm": (
        "nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear({c}, 4)), nn.Tanh(), nn.Linear(4, 1))"
    ),
    "own": "Net(nn.Linear({c}, 4), nn.Tanh(), nn.Linear(4, 1))",
    "bayesian": "PyroModule[nn.Linear]({c}, 1)",
}

OPTIMIZERS = {
    "adam": 'pyro.optim.Adam({"lr": 0.02})',
    "clipped": 'pyro.optim.ClippedAdam({"lr": 0.02, "lrd": 0.99, "clip_norm": 1.0})',
    "sgd": 'pyro.optim.SGD({"lr": 0.001, "momentum": 0.9})',
    "scheduler": (
        'pyro.optim.ExponentialLR({"optimizer": torch.optim.Adam, "optim_args": {"lr": 0.02}, "gamma": 0.9})'
    ),
    "per parameter": 'pyro.optim.Adam(lambda name: {"lr": 0.01 if name.startswith("z") else 0.02})',
    "adagrad": 'pyro.optim.AdagradRMSProp({"eta": 0.1})',
    "clip": 'pyro.optim.Adam({"lr": 0.02}, {"clip_norm": 1.0})',
}

AUTO = {
    "auto_normal": "AutoNormal",
    "auto_delta": "AutoDelta",
    "auto_diagonal": "AutoDiagonalNormal",
    "auto_mvn": "AutoMultivariateNormal",
    "auto_lowrank": "AutoLowRankMultivariateNormal",
}

PATTERNS = {
    "constant": "1.0",
    "once": "1.0 if step < 5 else 1.3",
    "seldom": "1.0 + 0.1 * (step // 3)",
    "drifts": "1.0 + 1e-4 * step",
    "tiny": "1.0 if step < 5 else 1.0 - 1e-6",
    "alternates": "(1.0, 1.2)[step % 2]",
    "late": "1.0 + 1e-4 * max(0, step - 4)",
}

TURNS = {
    "item": ["if mu.mean().item() > 0:", "    mu = 0.9 * mu"],
    "value": ["if (mu > 0).any():", "    mu = 0.9 * mu"],
    "data": ["if x.mean() > 0:", "    mu = 0.9 * mu"],
    "length": ["if len(y) > 6:", "    mu = 0.9 * mu"],
    "name": ['pyro.deterministic(f"mean_{int(x.mean().item() > 0)}", mu.mean())'],
    "while": ["shift = x.mean()", "while 0.1 < shift.abs() < 1e9:", "    shift = 0.5 * shift", "mu = mu + shift"],
    "isnan": ["if torch.isnan(mu).any():", '    raise ValueError("nan in the mean")'],
    "parameter": [
        'bias = pyro.param("bias", torch.tensor(0.01))',
        "mu = mu + bias * (2.0 if bias.item() > 0 else 1.0)",
    ],
    "numpy": ["mu = mu + 0.1 * float(mu.detach().numpy().mean())"],
    "selected": ["mu = mu + 0.1 * x[x > 0].sum()"],
    "tolist": ["mu = mu + 0.01 * sum(x[:, 0].tolist())"],
    "grad": ["mu = mu * (1.1 if torch.is_grad_enabled() else 0.9)"],
    "store": ["mu = mu + 0.01 * len(pyro.get_param_store())"],
    "autograd": [
        "with torch.enable_grad():",
        "    point = x.detach().clone().requires_grad_()",
        "    mu = mu + 0.01 * torch.autograd.grad(point.pow(3).sum(), point)[0].mean()",
    ],
    "lookup": ["mu = mu + {False: 0.1, True: 0.2}[bool(x.sum() > 0)]"],
}

DRAWN = {
    "randn": ["mu = mu + 0.1 * torch.randn(())"],
    "randn_like": ["mu = mu + 0.1 * torch.randn_like(base)"],
    "dropout": ["mu = nn.functional.dropout(mu, 0.3)"],
    "randperm": ["mu = mu + 0.1 * base[torch.randperm(len(base))]"],
    "python": ["mu = mu + 0.1 * random.random()"],
    "numpy": ["mu = mu + 0.1 * np.random.normal()"],
    "python branch": ["if random.random() < 0.5:", "    mu = mu + 0.1"],
    "torch branch": ["if torch.rand(()) < 0.5:", "    mu = mu + 0.1"],
}

# Its parameter, what the call gives, and what the model does with it.
ARGUMENTS = {
    "flag": ("train=True", "step % 6 < 4", ["if train:", "    mu = 0.9 * mu"]),
    "optional mask": (
        "keep=None",
        "torch.arange(n) % 2 == 0 if step % 3 == 2 else None",
        ["if keep is not None:", "    mu = torch.where(keep{new}, mu, 0.0 * mu)"],
    ),
    "label": ("label='a'", "'ab'[step // 4 % 2]", ["mu = mu + {{'a': 0.1, 'b': 0.2}}[label]"]),
    "partial": ("link=None", "functools.partial(torch.clamp, max=2.0)", ["mu = link(mu)"]),
    "changing partial": ("link=None", "functools.partial(torch.clamp, max=0.2 / (1 + step // 5))", ["mu = link(mu)"]),
    "lambda": ("link=None", "lambda value: 0.9 * value", ["mu = link(mu)"]),
    "changing lambda": ("link=None", "lambda value: (0.9 - 0.1 * (step // 5)) * value", ["mu = link(mu)"]),
    "config": ("config=None", "Config(0.9, step // 5)", ["mu = config.width * mu + 0.1 * config.epoch"]),
}
