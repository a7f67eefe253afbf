"""Pictures: every function returns a figure, which `save` writes as a PNG file; `tiles` an image."""

from pyro_ricvae._core.extras import extra

with extra("plots"):
    from pyro_ricvae.plots.comparison import criteria
    from pyro_ricvae.plots.guide import coverage, k_hat, rank_histograms
    from pyro_ricvae.plots.replicates import densities, pit_histogram, replicated_images, statistics
    from pyro_ricvae.plots.rows import image_grid, tiles, worst_cells
    from pyro_ricvae.plots.style import save

__all__ = [
    "coverage",
    "criteria",
    "densities",
    "image_grid",
    "k_hat",
    "pit_histogram",
    "rank_histograms",
    "replicated_images",
    "save",
    "statistics",
    "tiles",
    "worst_cells",
]
