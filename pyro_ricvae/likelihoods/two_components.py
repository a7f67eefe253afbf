"""What mixtures of two components around one location have in common: clean cells, and others."""

import torch
from pyro.distributions import TorchDistribution
from torch import Tensor
from torch.distributions import constraints


class TwoComponents(TorchDistribution):
    """A cell that is of one of two components, both around ``loc``: a subclass defines their `log_joint`."""

    support = constraints.real
    has_rsample = True
    loc: Tensor

    def log_joint(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-densities of a value and of the first, or the second component, in nats."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        """The location."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """The location."""
        return self.loc

    def log_prob(self, value: Tensor) -> Tensor:
        """Return the log-density, in nats."""
        if self._validate_args:
            self._validate_sample(value)
        return torch.logaddexp(*self.log_joint(value))

    def second_probability(self, value: Tensor) -> Tensor:
        """Return the probability that a value is of the second component, given the location."""
        first, second = self.log_joint(value)
        return torch.sigmoid(second - first)
