"""Results of a study's runs as tables of cases."""
