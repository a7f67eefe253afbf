from collections.abc import Iterator

import pyro
import pytest
import torch

# The tensors here are tiny: threads gain nothing, and on a busy machine they wait for each other many times over.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_seed_and_parameter_store() -> Iterator[None]:
    """Give every test the same random state and an empty Pyro parameter store."""
    torch.manual_seed(0)
    with pyro.get_param_store().scope():
        yield
