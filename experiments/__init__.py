"""What the methods are worth on data with dirt of known truth: the demo, and the experiments behind docs/results."""
