"""Published results of singular learning theory as experiments: `python -m experiments`."""
