"""The experiments behind docs/results, on data with dirt of known truth; run from a checkout."""
