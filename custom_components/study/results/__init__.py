"""What the runs of a study found, as tables of cases."""
