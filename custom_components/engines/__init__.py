"""Engines that continue with the other cases when one fails."""
