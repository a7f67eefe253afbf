"""``python -m experiments reproduce NAME``: the paper's experiments, and what came out."""

from experiments.reproduce.command import main

if __name__ == "__main__":  # a process that it starts imports this too
    main()
