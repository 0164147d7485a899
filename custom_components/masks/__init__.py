"""Lung and infection masks for a whole data set: segment all scans, point out bad masks, list the cases."""
