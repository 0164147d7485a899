"""Names from a data set in CSV files, which spreadsheets open: none may be taken for a formula."""

# How a formula begins; a spreadsheet also takes what stands behind a tab or a carriage return.
SIGNS = ("=", "+", "-", "@", "\t", "\r")
# A spreadsheet shows what follows it as text.
QUOTE = "'"


def quoted(value: object) -> object:
    """A cell that no spreadsheet computes: a text that begins like a formula, and is no number, gets a quote.

    Example:
        >>> quoted("=cmd()"), quoted("covid_017"), quoted("-12.5"), quoted(-3)
        ("'=cmd()", 'covid_017', '-12.5', -3)
    """
    return f"{QUOTE}{value}" if isinstance(value, str) and _is_formula(value) else value


def unquoted(text: str) -> str:
    """The text that :func:`quoted` was given.

    Example:
        >>> unquoted("'=cmd()"), unquoted("'s Hertogenbosch")
        ('=cmd()', "'s Hertogenbosch")
    """
    return text[1:] if text.startswith(QUOTE) and _is_formula(text[1:]) else text


def _is_formula(text: str) -> bool:
    if not text.startswith(SIGNS):
        return False
    try:
        float(text)
    except ValueError:
        return True
    return False
