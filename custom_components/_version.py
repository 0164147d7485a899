__version__ = "0.15.0"
NOTICE = "Research use only. Not a medical device, not for diagnosis."
