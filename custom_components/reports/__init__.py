"""What is reported of cases and data sets, as numbers, tables and pages."""
