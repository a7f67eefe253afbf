"""CompiledSVI beside pyro.infer.SVI, on models of the kinds of Pyro's tests and examples, and on random ones."""
