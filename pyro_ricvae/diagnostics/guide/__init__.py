"""How good a guide is: importance weights, Pareto k-hat, amortisation gap, aggregate posterior, calibration."""
