"""Running the experiments of ``experiments.paper``: cached, resumable, in shares, each with a page of its own."""
