"""Ignite engines that finish the other cases when one fails."""
