"""NumPyro's jitted training step of the same networks and loss."""

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import torch
from jax import random
from numpyro.distributions.kl import kl_divergence
from numpyro.handlers import replay, seed, substitute, trace
from numpyro.infer import ELBO, SVI, TraceMeanField_ELBO
from torch import nn

from benchmarks.method import Method, UnavailableError
from benchmarks.shapes import FLOOR, LEARNING_RATE, Shape
from pyro_ricvae.networks import LOG_SCALE_BOUNDS

Parameters = dict[str, Any]


class Recycling(ELBO):  # type: ignore[misc]
    """The objective summed over recycled passes; NumPyro has none of that kind."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.passes = passes

    def loss(self, rng_key: Any, param_map: Parameters, model: Any, guide: Any, x: Any) -> Any:
        """Return the loss of the rows `x`."""
        total = jnp.zeros(())
        for key in random.split(rng_key, self.passes):
            latent_key, recycle_key = random.split(key)
            guide_trace = trace(substitute(seed(guide, latent_key), data=param_map)).get_trace(x)
            model_trace = trace(substitute(replay(model, guide_trace), data=param_map)).get_trace(x)
            observed = model_trace["x"]["fn"]
            kl = kl_divergence(guide_trace["z"]["fn"], model_trace["z"]["fn"])
            total = total + kl.sum() - observed.log_prob(x).sum()
            x = observed.sample(recycle_key)  # what the last pass draws is dead code to the compiler
        return total


def numpyro_step(shape: Shape, passes: int, device: str) -> Method:
    """Return the method of NumPyro's jitted `SVI.update`, waited for at every step."""
    try:
        jax_device = jax.devices({"cpu": "cpu", "cuda": "gpu"}[device])[0]
    except RuntimeError as error:
        raise UnavailableError(f"jax has no {device} device here") from error
    # PyTorch multiplies fp32 matrices in fp32 unless told otherwise, jax on a GPU does not.
    jax.config.update("jax_default_matmul_precision", "highest")
    encoder, decoder = (_parameters(network, jax_device) for network in shape.networks("cpu"))
    x = jax.device_put(shape.rows("cpu").numpy(), jax_device)

    def model(x: Any) -> None:
        weights = numpyro.param("decoder", decoder)
        with numpyro.plate("data", x.shape[0]):
            z = numpyro.sample("z", dist.Normal(jnp.zeros(shape.n_latent), 1.0).to_event(1))
            loc = _location(weights, _deep(weights, z), z)
            scale = jnp.maximum(jnp.abs(x - loc), FLOOR)
            numpyro.sample("x", dist.Normal(loc, scale).to_event(1), obs=x)

    def guide(x: Any) -> None:
        weights = numpyro.param("encoder", encoder)
        features = _deep(weights, x)
        scale = _bounded_scale(_linear(weights["log_scale"], features))
        with numpyro.plate("data", x.shape[0]):
            numpyro.sample("z", dist.Normal(_location(weights, features, x), scale).to_event(1))

    elbo = TraceMeanField_ELBO() if passes == 1 else Recycling(passes)
    engine = SVI(model, guide, numpyro.optim.Adam(LEARNING_RATE), elbo)
    update = jax.jit(engine.update)
    state = engine.init(random.key(0), x)
    start = engine.get_params(state)
    differentiate = jax.jit(jax.value_and_grad(lambda weights, key: elbo.loss(key, weights, model, guide, x)))

    def step() -> Any:
        nonlocal state
        state, loss = update(state, x)
        return jax.block_until_ready((state, loss))[1]

    def loss_and_norm(seed: int) -> tuple[float, float]:
        loss, gradients = differentiate(start, random.key(seed))
        return float(loss), float(sum(jnp.square(leaf).sum() for leaf in jax.tree.leaves(gradients)) ** 0.5)

    return Method(step, loss_and_norm)


def _parameters(network: nn.Module, device: Any) -> Parameters:
    """Return the parameters of an encoder or decoder: a pair of weight and bias, or a weight alone, for each layer."""

    def layer(linear: nn.Linear) -> tuple[Any, ...]:
        tensors: list[torch.Tensor] = [linear.weight.T, *([] if linear.bias is None else [linear.bias])]
        return tuple(jax.device_put(tensor.detach().contiguous().numpy(), device) for tensor in tensors)

    found: Parameters = {name: layer(each) for name, each in network.named_children() if isinstance(each, nn.Linear)}
    found["deep"] = [layer(each) for each in network.get_submodule("deep").children() if isinstance(each, nn.Linear)]
    return found


def _linear(layer: tuple[Any, ...], x: Any) -> Any:
    product = x @ layer[0]
    return product if len(layer) == 1 else product + layer[1]


def _deep(weights: Parameters, x: Any) -> Any:
    for layer in weights["deep"]:
        x = jax.nn.relu(_linear(layer, x))
    return x


def _location(weights: Parameters, features: Any, x: Any) -> Any:
    return _linear(weights["loc"], features) + _linear(weights["affine"], x)


def _bounded_scale(log_scale: Any) -> Any:
    # As pyro_ricvae.networks bounds it.
    lower, upper = LOG_SCALE_BOUNDS
    share = -lower / (upper - lower)
    slope = (upper - lower) * share * (1 - share)
    fraction = jax.nn.sigmoid(log_scale / slope + jnp.log(share / (1 - share)))
    return jnp.exp(lower + (upper - lower) * fraction)
