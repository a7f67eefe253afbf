"""All cases, by name."""

from conformance.collected import CASES

__all__ = ["CASES"]
