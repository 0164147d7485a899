__version__ = "0.10.1"
NOTICE = "Research use only. Not a medical device, not for diagnosis."
