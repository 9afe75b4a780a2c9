"""Every sampler on every model whose learning coefficient is known: estimates, error bars, coverage."""
