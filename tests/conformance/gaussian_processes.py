"""Gaussian processes of pyro.contrib.gp, with their own models and guides."""

import pyro.contrib.gp as gp
import pyro.distributions as dist
import torch
from pyro.infer import TraceMeanField_ELBO
from pyro.nn import PyroSample

from conformance.harness import Setup
from conformance.parts import line, same, setup


def gaussian_process() -> Setup:
    """Gaussian process regression of pyro.contrib.gp, its own model and guide, priors on the kernel."""
    x, y = line(8)
    kernel = gp.kernels.RBF(1, variance=torch.tensor(1.0), lengthscale=torch.tensor(0.5))
    process = gp.models.GPRegression(x, y, kernel, noise=torch.tensor(0.1))
    kernel.lengthscale = PyroSample(dist.LogNormal(0.0, 1.0))
    kernel.autoguide("lengthscale", dist.Normal)
    return setup(process.model, process.guide, same(), watched=[process])


def gaussian_process_data_set() -> Setup:
    """Gaussian process whose data the user sets anew at some steps (`set_data`), of other lengths."""
    x, y = line(8)
    kernel = gp.kernels.Sum(gp.kernels.Matern32(1), gp.kernels.Periodic(1))
    process = gp.models.GPRegression(x, y, kernel, noise=torch.tensor(0.1))

    def before(step: int) -> None:
        if step in (6, 12):
            process.set_data(*line(8 + step // 6))

    return setup(process.model, process.guide, same(), before=before, watched=[process])


def gaussian_process_sparse() -> Setup:
    """Variational sparse Gaussian process for classes, whitened."""
    x, _ = line(10)
    kernel = gp.kernels.RBF(1)
    likelihood = gp.likelihoods.Binary()
    process = gp.models.VariationalSparseGP(x, (x > 0).float(), kernel, x[::4].clone(), likelihood, whiten=True)
    return setup(process.model, process.guide, same(), watched=[process], loss=TraceMeanField_ELBO())


def gaussian_process_latent() -> Setup:
    """Gaussian process latent variable model."""
    y = torch.randn(2, 6)
    kernel = gp.kernels.RBF(2, lengthscale=torch.ones(2))
    process = gp.models.SparseGPRegression(torch.zeros(6, 2), y, kernel, torch.randn(3, 2), jitter=1e-3)
    process.X = PyroSample(dist.Normal(torch.zeros(6, 2), 0.5).to_event())
    process.autoguide("X", dist.Normal)
    return setup(process.model, process.guide, same(), watched=[process])
