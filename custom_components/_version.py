__version__ = "0.13.0"
NOTICE = "Research use only. Not a medical device, not for diagnosis."
