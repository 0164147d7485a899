"""What lies beside trained weights, and what they may hold."""
