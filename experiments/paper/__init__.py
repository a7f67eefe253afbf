"""The paper's experiments, a file each, run by ``python -m experiments reproduce NAME``.

A module has

``SUMMARY``
    What it shows, in one sentence.
``configurations(seeds, quick)``
    The settings of its runs, dicts of what JSON can hold. Each names its ``data``, one of `data.names`, and is all that
    its run depends on beside them.
``run(configuration, device)``
    What a run found: a dict of what JSON can hold and of arrays.
``report(runs)``
    Its `Report`, of dicts that hold a configuration, what its run found, and ``seconds``.

One that shows the runs of another has ``RUNS_OF``, that module, in the place of ``configurations`` and ``run``.
"""

#: In the order in which their pages are listed.
EXPERIMENTS = (
    "fig2",
    "fig3",
    "fig4",
    "fig5",
    "fig6",
    "passes",
    "scale",
    "table1",
    "phase",
    "reweighted",
    "robust_vaes",
)
