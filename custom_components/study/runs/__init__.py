"""The runs of a study: how they are executed, resumed and known again."""
