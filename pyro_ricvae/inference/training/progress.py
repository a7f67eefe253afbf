"""A progress bar for a run."""

from types import TracebackType
from typing import Any, Literal

from tqdm import tqdm


class Progress:
    """A bar on standard error with the loss terms, the rows trained per second and the time left.

    Used as a context manager, and given to a `Trainer` as ``on_log``.

    Parameters
    ----------
    n_rows : int
        Rows to be trained on in the whole run, once an epoch.
    verbose : bool or "auto"
        Whether to show it; "auto" where standard error is a terminal.
    """

    def __init__(self, n_rows: int, verbose: bool | Literal["auto"] = "auto") -> None:
        disable = None if verbose == "auto" else not verbose
        self._bar: tqdm[Any] = tqdm(total=n_rows, unit="row", unit_scale=True, disable=disable, leave=False)

    def __call__(self, entry: dict[str, Any]) -> None:
        """Show an entry of the history."""
        self._bar.set_description(f"{entry['phase']}, epoch {entry['epoch']:.0f}/{entry['epochs']}", refresh=False)
        terms = {"loss": "loss", "reconstruction": "reconstruction", "kl": "KL"}
        values = {label: f"{entry[name]:.1f}" for name, label in terms.items()}
        self._bar.set_postfix({**values, "active": f"{entry['active_units']:.0f}"}, refresh=False)
        self._bar.update(entry["rows"])

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()
