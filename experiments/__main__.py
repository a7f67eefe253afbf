"""``python -m experiments reproduce NAME``: the paper's experiments, and what came out."""

from experiments.reproduce.command import main

main()
