"""Examples around VAEs, small: semi-supervised, conditional, of counts of cells, of pictures drawn piece by piece."""

import functools
from collections.abc import Callable
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.infer import Trace_ELBO, TraceEnum_ELBO, TraceGraph_ELBO, TraceMeanField_ELBO, config_enumerate
from torch import Tensor, nn

from conformance.harness import Call, Setup
from conformance.parts import VAE, adam, batches, binary, no_guide, perceptron, positive, same, setup


def vae() -> Setup:
    """VAE over shuffled mini-batches, the test loss evaluated now and then under eval()."""
    vae, data = VAE(), binary(20)
    order = [torch.randperm(20, generator=torch.Generator().manual_seed(epoch)) for epoch in range(8)]

    def call(step: int) -> Call:
        epoch, batch = divmod(step, 3)
        return (data[order[epoch][8 * batch : 8 * batch + 8]],), {}

    return setup(vae.model, vae.guide, call, watched=[vae], evaluate_every=3)


def vae_annealed() -> Setup:
    """VAE whose KL weight is an argument that rises at each step, by poutine.scale in both."""
    vae = VAE()

    def weighted(function: Callable[[Tensor], None]) -> Callable[[Tensor, float], None]:
        def call(x: Tensor, weight: float) -> None:
            with poutine.scale(scale=weight):
                function(x)

        return call

    x = binary()
    return setup(weighted(vae.model), weighted(vae.guide), lambda step: ((x, min(1.0, 0.05 * (step + 1))), {}))


def beta_vae_by_objective() -> Setup:
    """A user's objective with a KL weight that rises by itself at each call."""

    class Annealed(TraceMeanField_ELBO):
        step = 0

        def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Any:
            self.step += 1
            with poutine.scale(scale=min(1.0, self.step / 15)):
                return super().loss_and_grads(model, guide, *args, **kwargs)

    vae, loss = VAE(), Annealed()
    return setup(vae.model, vae.guide, same(binary()), loss=loss, state=lambda: loss.step)


class _SemiSupervised(nn.Module):
    """A class, a style, and pictures of both."""

    def __init__(self) -> None:
        super().__init__()
        self.classifier = perceptron(6, 3)
        self.encoder = perceptron(9, 4)
        self.decoder = perceptron(5, 6)

    def model(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("ss", self)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(x.new_zeros(len(x), 2), 1.0).to_event(1))
            y = pyro.sample("y", dist.OneHotCategorical(torch.ones(3) / 3), obs=y)
            joined = torch.cat([z.expand(*y.shape[:-1], 2), y], -1)
            pyro.sample("x", dist.Bernoulli(logits=self.decoder(joined)).to_event(1), obs=x)

    def guide(self, x: Tensor, y: Tensor | None = None) -> None:
        with pyro.plate("data", len(x)):
            if y is None:
                y = pyro.sample("y", dist.OneHotCategorical(logits=self.classifier(x)))
            joined = torch.cat([x.expand(*y.shape[:-1], 6), y], -1)
            loc, log_scale = self.encoder(joined).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    def model_classify(self, x: Tensor, y: Tensor | None = None) -> None:
        pyro.module("ss", self)
        with pyro.plate("data", len(x)):
            if y is not None:
                with poutine.scale(scale=5.0):
                    pyro.sample("y_aux", dist.OneHotCategorical(logits=self.classifier(x)), obs=y)

    def guide_classify(self, x: Tensor, y: Tensor | None = None) -> None:
        """Return nothing: the auxiliary loss has no latents."""


def _labelled(step: int, x: Tensor, y: Tensor) -> Call:
    return ((x[:6], y[:6]), {}) if step % 3 == 0 else ((x[6:],), {})


def ss_vae() -> Setup:
    """Semi-supervised VAE, classes summed over: batches with and without labels in turn."""
    ss, x = _SemiSupervised(), binary()
    y = torch.eye(3)[torch.arange(16) % 3]
    guide = config_enumerate(ss.guide, expand=True)
    loss = TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
    return setup(ss.model, guide, lambda step: _labelled(step, x, y), loss=loss, watched=[ss])


def ss_vae_auxiliary() -> Setup:
    """Semi-supervised VAE with a second SVI for its classifier, which shares parameters and optimizer."""
    ss, x, optim = _SemiSupervised(), binary(), adam()
    y = torch.eye(3)[torch.arange(16) % 3]

    def call(step: int) -> Call:
        return _labelled(step, x, y)

    also = Setup(ss.model_classify, ss.guide_classify, optim, Trace_ELBO(), call)
    guide = config_enumerate(ss.guide, expand=True)
    loss = TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)
    return setup(ss.model, guide, call, loss=loss, optim=optim, watched=[ss], also=also)


def ss_vae_score_function() -> Setup:
    """Semi-supervised VAE, classes drawn, TraceGraph_ELBO with a decaying average."""
    ss, x = _SemiSupervised(), binary()
    y = torch.eye(3)[torch.arange(16) % 3]
    return setup(ss.model, ss.guide, lambda step: _labelled(step, x, y), loss=TraceGraph_ELBO(), watched=[ss])


def cvae() -> Setup:
    """Conditional VAE: a baseline network pre-trained and frozen, a mask of pixels, -1 for the hidden ones."""
    baseline, prior, recognition, decoder = perceptron(3, 3), perceptron(3, 4), perceptron(6, 4), perceptron(2, 3)
    baseline.requires_grad_(False)

    def model(x: Tensor, y: Tensor) -> Tensor:
        pyro.module("prior", prior)
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            loc, log_scale = prior(x).chunk(2, -1)
            z = pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
            logits = decoder(z) + baseline(x)
            seen = y >= 0
            pyro.sample("y", dist.Bernoulli(logits=logits[seen], validate_args=False).to_event(1), obs=y[seen])
        return logits

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.module("recognition", recognition)
        with pyro.plate("data", len(x)):
            loc, log_scale = recognition(torch.cat([x, y], -1)).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    pictures = binary()
    hidden = pictures[:, 3:].masked_fill(torch.rand(16, 3) < 0.3, -1.0)
    return setup(model, guide, same(pictures[:, :3], hidden), watched=[baseline, prior])


def cvae_masked() -> Setup:
    """Conditional VAE whose hidden pixels are masked, not indexed; batches."""
    prior, decoder = perceptron(3, 4), perceptron(5, 3)

    def model(x: Tensor, y: Tensor) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x)):
            z = pyro.sample("z", dist.Normal(torch.zeros(len(x), 2), 1.0).to_event(1))
            pixels = dist.Bernoulli(logits=decoder(torch.cat([x, z], -1))).mask(y >= 0).to_event(1)
            pyro.sample("y", pixels, obs=y.clamp(min=0.0))

    def guide(x: Tensor, y: Tensor) -> None:
        pyro.module("prior", prior)
        with pyro.plate("data", len(x)):
            loc, log_scale = prior(x).chunk(2, -1)
            pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))

    pictures = binary()
    return setup(model, guide, batches(pictures[:, :3], pictures[:, 3:] - (torch.rand(16, 3) < 0.3).float() * 3))


def scanvi() -> Setup:
    """Counts of cells, as in scANVI: library sizes, partly known types summed over, BatchNorm, a scaled loss."""

    class Cells(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.decoder = nn.Sequential(nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 4))
            self.encoder = nn.Sequential(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 6))
            self.classifier = perceptron(2, 3)
            self.dispersion = nn.Parameter(torch.zeros(4))

        def model(self, x: Tensor, y: Tensor | None = None) -> None:
            pyro.module("cells", self)
            with pyro.plate("cells", len(x)), poutine.scale(scale=1 / 40):
                z = pyro.sample("z", dist.Normal(torch.zeros(2), 1.0).to_event(1))
                y = pyro.sample("y", dist.OneHotCategorical(torch.ones(3) / 3), obs=y)
                size = pyro.sample("size", dist.LogNormal(torch.tensor([2.0]), 0.5).to_event(1))
                joined = torch.cat([z.expand(*y.shape[:-1], 2), y], -1)
                shares = self.decoder(joined.reshape(-1, 5)).reshape(*joined.shape[:-1], 4).softmax(-1)
                logits = (size * shares + 1e-6).log() - self.dispersion
                pyro.sample("x", dist.NegativeBinomial(self.dispersion.exp(), logits=logits).to_event(1), obs=x)

        def guide(self, x: Tensor, y: Tensor | None = None) -> None:
            pyro.module("cells", self)
            with pyro.plate("cells", len(x)), poutine.scale(scale=1 / 40):
                loc, log_scale, l_loc, l_scale = self.encoder(torch.log1p(x)).split([2, 2, 1, 1], -1)
                pyro.sample("size", dist.LogNormal(l_loc, nn.functional.softplus(l_scale)).to_event(1))
                z = pyro.sample("z", dist.Normal(loc, log_scale.exp()).to_event(1))
                probabilities = dist.OneHotCategorical(logits=self.classifier(z))
                if y is None:
                    pyro.sample("y", probabilities)
                else:
                    pyro.factor("classification", -5.0 * -probabilities.log_prob(y), has_rsample=False)

    cells, x = Cells(), torch.poisson(torch.full((12, 4), 2.0))
    y = torch.eye(3)[torch.arange(12) % 3]
    guide = config_enumerate(cells.guide, "parallel", expand=True)
    loss = TraceEnum_ELBO(max_plate_nesting=1, strict_enumeration_warning=False)

    def call(step: int) -> Call:
        return ((x, y), {}) if step % 2 else ((x,), {})

    return setup(cells.model, guide, call, loss=loss, watched=[cells])


def air() -> Setup:
    """Attend, infer, repeat: a new functools.partial at each call for the annealed prior, and a network as baseline."""
    encoder, decoder, baseline = perceptron(6, 5), perceptron(2, 6), perceptron(6, 1)

    def model(x: Tensor, steps: int, prior: Callable[[int], Tensor], **options: Any) -> None:
        pyro.module("decoder", decoder)
        with pyro.plate("data", len(x), dim=-1):
            canvas, on = torch.zeros_like(x), torch.ones(len(x), 1)
            for t in range(steps):
                present = dist.Bernoulli(prior(t).expand(len(x), 1) * on).to_event(1)
                on = pyro.sample(f"present_{t}", present)
                what = dist.Normal(torch.zeros(len(x), 2), 1.0).mask(on.bool()).to_event(1)
                canvas = canvas + on * decoder(pyro.sample(f"what_{t}", what))
            pyro.sample("x", dist.Normal(canvas, 0.3).to_event(1), obs=x)

    def guide(x: Tensor, steps: int, prior: Callable[[int], Tensor], *, averaged: bool = True) -> None:
        pyro.module("encoder", encoder)
        pyro.module("baseline", baseline)
        with pyro.plate("data", len(x), dim=-1):
            on = torch.ones(len(x), 1)
            for t in range(steps):
                p, loc, log_scale = encoder(x - t).split([1, 2, 2], -1)
                given = {"baseline_value": baseline(x).squeeze(-1), "use_decaying_avg_baseline": averaged}
                present = dist.Bernoulli(p.sigmoid() * on).to_event(1)
                on = pyro.sample(f"present_{t}", present, infer={"baseline": given})
                pyro.sample(f"what_{t}", dist.Normal(loc, log_scale.exp()).mask(on.bool()).to_event(1))

    def rates(name: str) -> dict[str, float]:
        return {"lr": 0.1 if "baseline" in name else 0.01}

    x = binary(6)

    def call(step: int) -> Call:
        prior = functools.partial(lambda t, now: torch.tensor(max(0.1, 0.6 - 0.02 * now) ** (t + 1)), now=step)
        return (x, 2, prior), {"averaged": False} if step % 2 else {}

    return setup(model, guide, call, loss=TraceGraph_ELBO(), optim=pyro.optim.Adam(rates))


def probabilistic_pca() -> Setup:
    """Probabilistic PCA by maximum likelihood, the latents integrated out (LowRankMultivariateNormal)."""

    def model(x: Tensor) -> None:
        loadings = pyro.param("loadings", lambda: 0.3 * torch.randn(6, 2))
        noise = pyro.param("noise", torch.tensor(0.5), constraint=positive)
        rows = dist.LowRankMultivariateNormal(torch.zeros(6), loadings, noise.expand(6))
        with pyro.plate("data", len(x)):
            pyro.sample("x", rows, obs=x)

    return setup(model, no_guide, batches(torch.randn(20, 6)))
