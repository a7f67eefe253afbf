"""The robust deep autoencoder: rows are what an autoencoder can make, and sparse dirt."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from pyro_ricvae.inference import Recipe
from pyro_ricvae.networks import MLPDecoder, MLPEncoder

_RECIPE = Recipe()  # the same networks and steps as all others here have

Norm = Literal["l1", "l21"]


def shrunk(rows: Tensor, threshold: float, norm: Norm) -> Tensor:
    r"""Return the proximal step of a norm: the S with the least :math:`\tfrac12 \|S - R\|^2 + \lambda \|S\|`.

    Parameters
    ----------
    rows : Tensor, shape (n, d)
        R.
    threshold : float
        :math:`\lambda`, in the units of the rows.
    norm : {"l1", "l21"}
        The sum of absolute values, under which a cell is moved towards 0 by :math:`\lambda`; or the sum of the rows'
        Euclidean norms, under which a row's length is.
    """
    if norm == "l1":
        return rows.sign() * (rows.abs() - threshold).clamp_min(0)
    lengths = rows.norm(dim=1, keepdim=True)
    return rows * (1 - threshold / lengths.clamp_min(torch.finfo(rows.dtype).tiny)).clamp_min(0)


class RobustDeepAutoencoder:
    r"""Rows as :math:`X = L + S`, L what an autoencoder can make and S sparse (Zhou and Paffenroth, 2017).

    .. math:: \min_{\theta, S} \|L - D_\theta(E_\theta(L))\|_2 + \lambda \|S\|, \qquad L = X - S

    In turn, the autoencoder is trained on L (on the squared error, as in the authors' code), L becomes what it makes of
    it, and S the proximal step, `shrunk`, of X - L. Networks, centre, affine path, bound, Adam and cosine are
    `inference.Recipe`'s, and one cosine goes over all rounds.

    Parameters
    ----------
    threshold : float
        :math:`\lambda`, in the units of the rows. (The authors' code divides it by a number that depends on the data,
        so that its values are not comparable.)
    n_latent : int
        The number of units of the code.
    hidden : sequence of int
        Sizes of the encoder's hidden layers, which the decoder mirrors.
    passes : int
        Over the rows, in all.
    rounds : int, optional
        How often S is found anew: None is after each pass. The authors' code has 20, of 50 passes each, of which few
        are left where there are few passes: dirt of tables then stays in L.
    norm : {"l1", "l21"}, default="l1"
        Of S.
    bound : float, default=4.0
        The distance from the centre beyond which the encoder takes a cell to lie there; 1 for images on [0, 1].
    """

    def __init__(
        self,
        threshold: float,
        n_latent: int,
        hidden: Sequence[int],
        passes: int,
        *,
        rounds: int | None = None,
        norm: Norm = "l1",
        bound: float = 4.0,
    ) -> None:
        self.threshold, self.norm = threshold, norm
        self.n_latent, self.hidden, self.bound = n_latent, tuple(hidden), bound
        self.passes, self.rounds = passes, min(rounds or passes, passes)

    def fit(self, x: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return what the autoencoder makes of the rows, and their dirt, L and S.

        Parameters
        ----------
        x : Tensor, shape (n, d)
            Rows, in standardised units.
        seed : int
            Of networks and batches.

        Returns
        -------
        low, sparse : Tensor, shape (n, d)
            In standardised units.
        """
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            center, n_features = x.median(0).values, x.shape[1]
            encoder = MLPEncoder(n_features, self.n_latent, self.hidden, center=center, bound=self.bound)
            decoder = MLPDecoder(self.n_latent, n_features, self.hidden[::-1], center=center)
            return self._alternate(x, encoder, decoder)

    def _alternate(self, x: Tensor, encoder: MLPEncoder, decoder: MLPDecoder) -> tuple[Tensor, Tensor]:
        parameters = [*encoder.parameters(), *decoder.parameters()]
        n_batches = math.ceil(len(x) / _RECIPE.batch_size)
        n_steps = self.passes * n_batches
        optimizer = torch.optim.Adam(parameters, lr=_RECIPE.learning_rate)
        schedule = LambdaLR(optimizer, lambda step: _RECIPE.rate_factor(min(step, n_steps - 1), n_steps))
        low, sparse = x, torch.zeros_like(x)
        for passes in torch.arange(self.passes).tensor_split(self.rounds):
            cleaner = x - sparse
            for _ in passes:
                for batch in torch.randperm(len(x)).tensor_split(n_batches):
                    rows = cleaner[batch]
                    loss = (rows - decoder(encoder(rows)[0])).square().sum()
                    optimizer.zero_grad()
                    loss.backward()
                    nn.utils.clip_grad_norm_(parameters, _RECIPE.clip_norm or math.inf)
                    optimizer.step()
                    schedule.step()
            with torch.no_grad():
                low = decoder(encoder(cleaner)[0])
                sparse = shrunk(x - low, self.threshold, self.norm)
        return low, sparse
