"""Progress on stderr, the library's bar."""

from slt_jax.progress import progress_bar

__all__ = ["progress_bar"]
