"""Check the boolean options of a config."""


def check_switches(**switches: object) -> None:
    """Check that switches are booleans: any non-empty string, such as ``amp: 'false'``, would count as true.

    Args:
        switches: values by name. The string ``true`` is accepted because it has the intended effect.

    Raises:
        ValueError: names the switch, its value and what to write.

    Example:
        >>> check_switches(amp=True, resume="true")
        >>> check_switches(amp="false")
        Traceback (most recent call last):
        ValueError: amp is the word 'false', which would count as true. Write --amp False, or True.
    """
    for name, value in switches.items():
        if isinstance(value, str) and value.lower() != "true":
            raise ValueError(f"{name} is the word {value!r}, which would count as true. Write --{name} False, or True.")
