"""Settings of the digits network, for configs: cheap to import, no JAX."""

from dataclasses import dataclass

__all__ = ["Network"]


@dataclass(frozen=True)
class Network:
    """A perceptron with one tanh layer on 8x8 images of digits, and how it is trained."""

    hidden_units: int = 8
    num_examples: int = 300
    """Training images, n; the rest of the 1,797 are for testing."""
    num_steps: int = 2000
    learning_rate: float = 0.02
    """Of Adam on all the data, falling to zero as a cosine."""
    weight_decay: float = 1e-3
    """c of the objective mean loss + c/2·|w|²: with it there is a minimum, and not only a direction to go."""
