"""Numbers of a config that are true or false."""


def check_switches(**switches: object) -> None:
    """Refuse a switch that is a word, such as an overlay's ``amp: 'false'``: any text counts as true.

    Args:
        switches: by name; true or false. The word true is let pass, since it does what it says.

    Raises:
        ValueError: naming the switch, what came and what to write.

    Example:
        >>> check_switches(amp=True, resume="true")
        >>> check_switches(amp="false")
        Traceback (most recent call last):
        ValueError: amp is the word 'false', which would count as true. Write --amp False, or True.
    """
    for name, value in switches.items():
        if isinstance(value, str) and value.lower() != "true":
            raise ValueError(f"{name} is the word {value!r}, which would count as true. Write --{name} False, or True.")
