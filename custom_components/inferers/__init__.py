"""How a network is applied to a batch."""
