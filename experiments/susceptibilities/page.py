"""The showing half of `susceptibilities`: figures, table and page, from storage alone."""

import xarray

from configs.susceptibilities import Susceptibility
from slt_lab.page import Page

__all__ = ["page"]


def page(results: xarray.Dataset, config: Susceptibility) -> Page:
    """The page of a run."""
    del config
    return Page("susceptibilities", "", [])
