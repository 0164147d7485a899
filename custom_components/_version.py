__version__ = "0.14.0"
NOTICE = "Research use only. Not a medical device, not for diagnosis."
