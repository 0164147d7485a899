"""What each study runs and collects."""
