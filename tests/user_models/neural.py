"""Models with networks in them."""

from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import ELBO, Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, config_enumerate
from pyro.infer.autoguide import AutoLowRankMultivariateNormal
from pyro.nn import PyroModule, PyroSample
from torch import Tensor, nn
from torch.distributions import constraints

from user_models.case import Case, fewer


class _TutorialVAE(nn.Module):
    """Pyro's tutorial's."""

    def __init__(self, n_pixels: int, n_hidden: int, n_latent: int) -> None:
        super().__init__()
        self.n_latent = n_latent
        self.encoder = nn.Sequential(nn.Linear(n_pixels, n_hidden), nn.Softplus(), nn.Linear(n_hidden, 2 * n_latent))
        self.decoder = nn.Sequential(nn.Linear(n_latent, n_hidden), nn.Softplus(), nn.Linear(n_hidden, n_pixels))

    def model(self, x: Tensor) -> None:
        pyro.module("decoder", self.decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(x.new_zeros(x.shape[0], self.n_latent), 1.0).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(z)).to_event(1), obs=x)

    def guide(self, x: Tensor) -> None:
        pyro.module("encoder", self.encoder)
        with pyro.plate("data", x.shape[0]):
            loc, log_scale = self.encoder(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))


def tutorial_vae() -> Case:
    """VAE of Pyro's tutorial (784-400-50, batch 128), pyro.module."""
    vae = _TutorialVAE(784, 400, 50)
    return Case(vae.model, vae.guide, TraceMeanField_ELBO(), *fewer(torch.bernoulli(torch.full((128, 784), 0.3))))


def semi_supervised_vae() -> Case:
    """Semi-supervised VAE, unlabelled batch, classes enumerated."""
    n_pixels, n_classes, n_latent = 64, 5, 8
    classifier = nn.Sequential(nn.Linear(n_pixels, 64), nn.ReLU(), nn.Linear(64, n_classes))
    encoder = nn.Sequential(nn.Linear(n_pixels + n_classes, 64), nn.ReLU(), nn.Linear(64, 2 * n_latent))
    decoder = nn.Sequential(nn.Linear(n_latent + n_classes, 64), nn.ReLU(), nn.Linear(64, n_pixels))

    def joined(values: Tensor, classes: Tensor) -> Tensor:
        return torch.cat([values.expand(*classes.shape[:-1], values.shape[-1]), classes], -1)

    def model(x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", x.shape[0]):
            z = pyro.sample("z", dist.Normal(torch.zeros(n_latent), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(n_classes) / n_classes), obs=y)
            pyro.sample("x", dist.Bernoulli(logits=decoder(joined(z, y))).to_event(1), obs=x)

    def guide(x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("classifier", classifier)
        pyro.module("encoder", encoder)
        with pyro.plate("data", x.shape[0]):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=classifier(x)))
            loc, log_scale = encoder(joined(x, y)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    args, other = fewer(torch.bernoulli(torch.full((100, n_pixels), 0.3)))
    return Case(
        model, config_enumerate(guide, expand=True), TraceEnum_ELBO(max_plate_nesting=1), (*args, None), (*other, None)
    )


def topic_model() -> Case:
    """Topic model, Dirichlet guide with a network (amortised), words enumerated."""
    n_words, n_topics = 40, 4
    network = nn.Sequential(nn.Linear(n_words, 16), nn.Softplus(), nn.Linear(16, n_topics), nn.Softplus())

    def model(documents: Tensor) -> None:
        with pyro.plate("topics", n_topics):
            words = pyro.sample("words", dist.Dirichlet(torch.full((n_words,), 0.5)))
        with pyro.plate("documents", documents.shape[0], dim=-1):
            shares = pyro.sample("shares", dist.Dirichlet(torch.ones(n_topics)))
            with pyro.plate("places", documents.shape[1], dim=-2):
                topic = pyro.sample("topic", dist.Categorical(shares), infer={"enumerate": "parallel"})
                pyro.sample("word", dist.Categorical(words[topic]), obs=documents.T)

    def guide(documents: Tensor) -> None:
        pyro.module("network", network)
        concentration = pyro.param("words_q", torch.ones(n_topics, n_words), constraint=constraints.positive)
        with pyro.plate("topics", n_topics):
            pyro.sample("words", dist.Dirichlet(concentration))
        counts = nn.functional.one_hot(documents, n_words).sum(-2).float()
        with pyro.plate("documents", documents.shape[0], dim=-1):
            pyro.sample("shares", dist.Dirichlet(network(counts) + 0.1))

    documents = torch.randint(n_words, (64, 20))
    return Case(model, guide, TraceEnum_ELBO(max_plate_nesting=2), *fewer(documents))


def poisson_factors() -> Case:
    """Poisson factor model, Gamma guide with a network."""
    network = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 6))

    def model(counts: Tensor) -> None:
        loadings = pyro.param("loadings", lambda: torch.rand(3, 20), constraint=constraints.positive)
        with pyro.plate("data", len(counts)):
            z = pyro.sample("z", dist.Gamma(torch.ones(3), 1.0).to_event(1))
            pyro.sample("counts", dist.Poisson(z @ loadings).to_event(1), obs=counts)

    def guide(counts: Tensor) -> None:
        pyro.module("network", network)
        shape, rate = nn.functional.softplus(network(counts)).chunk(2, -1)
        with pyro.plate("data", len(counts)):
            pyro.sample("z", dist.Gamma(shape + 0.1, rate + 0.1).to_event(1))

    return Case(model, guide, Trace_ELBO(), *fewer(torch.randint(4, (100, 20)).float()))


class _BayesianNetwork(PyroModule):
    def __init__(self, n_features: int, n_hidden: int) -> None:
        super().__init__()
        self.hidden = PyroModule[nn.Linear](n_features, n_hidden)
        self.out = PyroModule[nn.Linear](n_hidden, 1)
        for layer in (self.hidden, self.out):
            layer.weight = PyroSample(dist.Normal(0.0, 1.0).expand(layer.weight.shape).to_event(2))
            layer.bias = PyroSample(dist.Normal(0.0, 10.0).expand(layer.bias.shape).to_event(1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        mean = self.out(torch.tanh(self.hidden(x))).squeeze(-1)
        noise = pyro.sample("noise", dist.Gamma(2.0, 2.0))
        with pyro.plate("data", x.shape[0]):
            pyro.sample("y", dist.Normal(mean, noise), obs=y)
        return mean


def bayesian_network() -> Case:
    """Bayesian neural network, PyroSample, AutoLowRankMultivariateNormal."""
    network = _BayesianNetwork(5, 16)
    guide = AutoLowRankMultivariateNormal(network)
    return Case(network, guide, Trace_ELBO(), *fewer(torch.randn(100, 5), torch.randn(100)))


def deep_markov_model() -> Case:
    """Deep Markov model, a loop over time, a GRU in the guide."""
    gru, combine = nn.GRU(6, 8, batch_first=True), nn.Linear(10, 4)
    transition, emission = nn.Linear(2, 4), nn.Linear(2, 6)

    def step(t: int, output: Tensor) -> Tensor:
        loc, log_scale = output.chunk(2, -1)
        z: Tensor = pyro.sample(f"z_{t}", dist.Normal(loc, log_scale.exp()).to_event(1))
        return z

    def model(x: Tensor) -> None:
        pyro.module("transition", transition)
        pyro.module("emission", emission)
        z = x.new_zeros(len(x), 2)
        with pyro.plate("data", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                z = step(t, transition(z))
                pyro.sample(f"x_{t}", dist.Normal(emission(z), 0.5).to_event(1), obs=x[:, t])

    def guide(x: Tensor) -> None:
        pyro.module("gru", gru)
        pyro.module("combine", combine)
        seen, _ = gru(x)
        z = x.new_zeros(len(x), 2)
        with pyro.plate("data", len(x)):
            for t in pyro.markov(range(x.shape[1])):
                z = step(t, combine(torch.cat([seen[:, t], z], -1)))

    return Case(model, guide, Trace_ELBO(), *fewer(torch.randn(64, 4, 6)))


def _belief_network(elbo: ELBO) -> Case:
    recognition, generation, baseline = nn.Linear(30, 8), nn.Linear(8, 30), nn.Linear(30, 1)

    def model(x: Tensor) -> None:
        pyro.module("generation", generation)
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(torch.full((8,), 0.5)).to_event(1))
            pyro.sample("x", dist.Bernoulli(logits=generation(h)).to_event(1), obs=x)

    def guide(x: Tensor) -> None:
        pyro.module("recognition", recognition)
        infer = {}
        if isinstance(elbo, TraceGraph_ELBO):
            pyro.module("baseline", baseline)
            infer = {"baseline": {"nn_baseline": lambda x: baseline(x).squeeze(-1), "nn_baseline_input": x}}
        with pyro.plate("data", len(x)):
            pyro.sample("h", dist.Bernoulli(logits=recognition(x)).to_event(1), infer=infer)

    return Case(model, guide, elbo, *fewer(torch.bernoulli(torch.full((100, 30), 0.3))))


def belief_network() -> Case:
    """Sigmoid belief network, discrete latents without enumeration (score function)."""
    return _belief_network(Trace_ELBO(num_particles=2))


def belief_network_with_baseline() -> Case:
    """Sigmoid belief network with a neural baseline."""
    return _belief_network(TraceGraph_ELBO())


def _density(*flow: Any) -> Case:
    def model(x: Tensor) -> None:
        pyro.module("flow", nn.ModuleList(flow))
        density = dist.TransformedDistribution(dist.Normal(torch.zeros(4), 1.0).to_event(1), list(flow))
        density.clear_cache()
        with pyro.plate("data", len(x)):
            pyro.sample("x", density, obs=x)

    return Case(model, lambda x: None, Trace_ELBO(), *fewer(torch.randn(100, 4)))


def spline_flow() -> Case:
    """Density by spline coupling and affine coupling flows."""
    transforms = dist.transforms
    return _density(transforms.spline_coupling(4, hidden_dims=[16]), transforms.affine_coupling(4, hidden_dims=[16]))


def autoregressive_flow() -> Case:
    """Density by an affine autoregressive flow."""
    return _density(dist.transforms.affine_autoregressive(4, hidden_dims=[16]))
