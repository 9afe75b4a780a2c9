"""Frozen-dataclass configs, one module per experiment; each docstring is a lab card."""
