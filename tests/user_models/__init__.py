"""Models as Pyro users write them: ``python -m user_models``, in tests, prints what becomes of each compiled."""

from user_models.case import Case
from user_models.coins import (
    branch_on_data,
    coin,
    rows_drawn_by_numpy,
)
from user_models.neural import (
    autoregressive_flow,
    bayesian_network,
    belief_network,
    belief_network_with_baseline,
    deep_markov_model,
    poisson_factors,
    semi_supervised_vae,
    spline_flow,
    topic_model,
    tutorial_vae,
)
from user_models.statistical import (
    correlated_returns,
    gaussian_mixture,
    gaussian_process,
    hidden_markov_model,
    hierarchical_regression,
    horseshoe_regression,
    parameters_and_own_guide,
    poisson_regression,
    state_space_model,
    subsampled_logistic_regression,
)

MODELS = {
    make.__name__: make
    for make in (
        hierarchical_regression,
        subsampled_logistic_regression,
        parameters_and_own_guide,
        poisson_regression,
        horseshoe_regression,
        correlated_returns,
        gaussian_mixture,
        hidden_markov_model,
        state_space_model,
        gaussian_process,
        tutorial_vae,
        semi_supervised_vae,
        topic_model,
        poisson_factors,
        bayesian_network,
        deep_markov_model,
        belief_network,
        belief_network_with_baseline,
        spline_flow,
        autoregressive_flow,
        coin,
        branch_on_data,
        rows_drawn_by_numpy,
    )
}

__all__ = ["MODELS", "Case"]
