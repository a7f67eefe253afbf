"""Looking at a model without changing it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from pyro_ricvae._param_store import own_parameters


@contextmanager
def evaluation(*modules: nn.Module) -> Iterator[None]:
    """Put the modules, and all within them, in evaluation mode, without gradients; leave them as they were."""
    were_training = [(each, each.training) for module in modules for each in module.modules()]
    for module in modules:
        module.eval()
    try:
        with torch.no_grad(), own_parameters():
            yield
    finally:
        for each, training in were_training:
            each.training = training
