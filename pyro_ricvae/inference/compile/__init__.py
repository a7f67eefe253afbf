"""Compiled Pyro: model, guide and objective as one graph."""

from pyro_ricvae.inference.compile.elbo import CompiledELBO, compile_elbo
from pyro_ricvae.inference.compile.program import CompilationWarning
from pyro_ricvae.inference.compile.svi import CompiledSVI

__all__ = ["CompilationWarning", "CompiledELBO", "CompiledSVI", "compile_elbo"]
