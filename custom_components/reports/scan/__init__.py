"""The report of one scan: findings, sentences, pictures, page."""
