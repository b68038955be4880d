"""Numbers as people read them."""


def duration(seconds: float) -> str:
    """A time people read at a glance: 8s, 3m20s, 3h12m, 2d4h."""
    whole = round(seconds)
    for size, unit, smaller, smaller_unit in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "m"),
        (60, "m", 1, "s"),
    ):
        if whole >= size:
            return f"{whole // size}{unit}{whole % size // smaller}{smaller_unit}"
    return f"{whole}s"
