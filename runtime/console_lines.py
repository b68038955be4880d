"""What a training run says on the console: one aligned line a log, results of evaluations below.

An evaluation of few numbers stays on the line; more follow on lines of their own, domains as a
table, so that no line is longer than WIDTH.
"""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from runtime.readable import duration

WIDTH = 120
INDENT = "    "
BY_DOMAIN = {"loss": "loss_by_domain/", "accuracy": "accuracy_by_domain/",
             "bits/byte": "bits_per_byte_by_domain/"}  # fmt: skip
RESULTS = ("eval", "health", "probe", "mixture")  # groups shown by name
NOTABLE_WAIT = 0.01  # share of the time waiting for data from which it is shown


def console_line(
    step: int, total_steps: int, metrics: Mapping[str, float], seconds_left: float | None
) -> str:
    """The known quantities in a fixed order, then results of evaluations; no newline at the end,
    nothing at all where nothing of that is known."""
    parts = [f"step {step:>{len(str(total_steps))}}/{total_steps}", *quantities(metrics)]
    found = results(metrics)
    eta = []
    if "loss/train" in metrics and seconds_left is not None:
        eta = [f"eta {duration(seconds_left)}"]
    domains = [
        f"{tag.partition('/')[2]} {value:.4g}"
        for tag, value in metrics.items()
        if tag.startswith(BY_DOMAIN["loss"])
    ]
    if len(parts) == 1 and not domains and not found:
        return ""
    whole = "  ".join([*parts, *domains, *found, *eta])
    if cell_len(whole) <= WIDTH:
        return whole
    below = [*wrapped(found), *table(metrics)]
    return "\n".join(["  ".join(parts + eta), *(INDENT + line for line in below)])


def quantities(metrics: Mapping[str, float]) -> list[str]:
    """Loss, rate, gradient norm, speed, memory and validation loss, as far as they are known."""
    parts = []
    wait = metrics.get("perf/data_wait_share", 0.0)
    for label, value, form in (
        ("loss ", metrics.get("loss/train"), "{:6.3f}"),
        ("lr ", metrics.get("optim/learning_rate"), "{:.1e}"),
        ("grad ", metrics.get("optim/gradient_norm"), "{:5.2f}"),
        ("", metrics.get("perf/tokens_per_second"), "{} tok/s"),
        ("mfu ", metrics.get("perf/mfu"), "{:5.1%}"),
        ("data wait ", wait if wait >= NOTABLE_WAIT else None, "{:.0%}"),
        ("", metrics.get("mem/device_peak_gib", metrics.get("mem/resident_gib")), "{:5.1f} GiB"),
        ("valid ", metrics.get("loss/valid"), "{:6.3f}"),
    ):
        if value is not None:
            shown = short_count(value) if form == "{} tok/s" else value
            parts.append(label + form.format(shown).replace("e-0", "e-"))
    return parts


def results(metrics: Mapping[str, float]) -> list[str]:
    """Names and values of what evaluations and hooks found, domains left out."""
    found = []
    for tag, value in metrics.items():
        group, _, name = tag.partition("/")
        if group in RESULTS:
            label = tag if group == "mixture" else name
            found.append(f"{label} {value:.4g}")
    return found


def wrapped(parts: Sequence[str]) -> list[str]:
    """As many parts on a line as fit."""
    lines: list[str] = []
    for part in parts:
        if lines and cell_len(INDENT + lines[-1] + "  " + part) <= WIDTH:
            lines[-1] += "  " + part
        else:
            lines.append(part)
    return lines


def table(metrics: Mapping[str, float]) -> list[str]:
    """A row for every domain, a column for each measure that was taken."""
    measures = {
        name: prefix
        for name, prefix in BY_DOMAIN.items()
        if any(tag.startswith(prefix) for tag in metrics)
    }
    domains = list(
        dict.fromkeys(
            tag.removeprefix(prefix)
            for prefix in measures.values()
            for tag in metrics
            if tag.startswith(prefix)
        )
    )
    if len(domains) < 2:  # its figures are those of everything
        return []
    width = max(cell_len(name) for name in ("domain", *domains))
    lines = [padded("domain", width) + "".join(f"{name:>11}" for name in measures)]
    for domain in domains:
        values = (metrics.get(prefix + domain) for prefix in measures.values())
        cells = ("" if value is None else f"{value:.4f}" for value in values)
        lines.append(padded(domain, width) + "".join(f"{cell:>11}" for cell in cells))
    return lines


def padded(text: str, width: int) -> str:
    """Filled with blanks to a width on the screen, where some characters take two columns."""
    return text + " " * (width - cell_len(text))


def short_count(value: float) -> str:
    """Four characters at most: 873, 41k, 412k, 1.2M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            scaled = value / size
            return f"{scaled:.1f}{unit}" if scaled < 9.95 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"
