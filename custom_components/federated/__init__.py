"""Training over several hospitals with NVFlare: scans stay where they are, weights, counts and scores travel."""
