"""Which cases a data set has, what is known of them, and how they are split."""
