"""Tables of a study: of its results and, where intervals are drawn, the number of bootstrap resamples."""
