"""The results as a Markdown table."""

import math
from statistics import median
from typing import Any

Result = dict[str, Any]
EPOCHS = {"train_cam": 5, "boundary_training": 3}  # published; each image is seen so often
INFERENCE = ("make_cam", "make_boundary_label", "make_sem_seg")
CHAIN_TARGET = 20
GROWTHS = (  # key, title, largest exponent
    ("walk", "The random walk on growing grids", 1.15),
    ("crf", "The dense CRF on growing images, 3 labels, one thread", 1.1),
)
SIGNS = {"ratio": "≥", "ours_mb": "≤", "ours_s": "≤", "difference": "≤"}


def render(results: Result) -> str:
    """All that was measured so far."""
    rows = results["rows"]
    lines = ["# Benchmarks", "", "Ours against the published way of computing the same (`benchmarks/published*.py`)."]
    lines += ["", *machines(rows), ""]
    comparisons = {name: row for name, row in rows.items() if "seconds" in row and "published" in row["seconds"]}
    if comparisons:
        lines += [
            "| row | published | ours | ratio | target | peak memory published / ours | largest difference |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *map(comparison, comparisons.values()),
        ]
        if chain(rows):
            lines.append(chain_line(rows))
        lines += ["", *NOTES]
    for growth in GROWTHS:
        lines += scaling(rows, *growth)
    lines += [*loaders(rows), *memory(rows), "", "Commands:", ""]
    lines += [f"- `{command}`" for command in dict.fromkeys(row["command"] for row in rows.values())]
    return "\n".join([*lines, ""])


def machines(rows: Result) -> list[str]:
    """Which rows were measured where; a ratio is always of one machine."""
    named: dict[str, list[str]] = {}
    for name, row in rows.items():
        named.setdefault(row["machine"], []).append(name)
    if len(named) == 1:
        return [f"Machine: {next(iter(named))}."]
    return ["Machines:", "", *(f"- {machine}: {', '.join(names)}" for machine, names in named.items())]


NOTES = (
    "Medians of the repetitions in parentheses, both sides in turn, after one uncounted call (none of the published",
    "side where it takes minutes). A step is its own `run`, from files to files, network loading and worker threads",
    "included. Training steps: samples in memory. The dense CRF: photographs in memory, CPU time of its one thread.",
    "Peak memory: above imports and inputs, in a fresh process, workers",
    "included. The walk's differences are from a computation in double precision. The seven steps are not run as one:",
    "their row is the sum of the rows for one image, 5 epochs of train_cam, make_cam, make_boundary_label, 3 epochs of",
    "train_sbe_boundary and make_sem_seg; validation and the two evaluations are left out on both sides.",
)


def comparison(row: Result) -> str:
    there, here = median(row["seconds"]["published"]), median(row["seconds"]["ours"])
    counts = [
        f"({len(times)}×{row['units'][side]})" if row["units"][side] > 1 else f"({len(times)})"
        for side, times in row["seconds"].items()
    ]
    memory = " / ".join(size(row["memory"][side]) for side in ("published", "ours")) if row.get("memory") else "–"
    differences = "; ".join(f"{name} {value:.1e}" for name, value in row["differences"].items())
    cells = [
        f"{row['title']}, {row['unit']}",
        f"{duration(there)} {counts[0]}",
        f"{duration(here)} {counts[1]}",
        f"**{there / here:.3g}×**",
        verdicts(row) or "–",
        memory,
        differences,
    ]
    return "| " + " | ".join(cells) + " |"


def figures(row: Result) -> dict[str, float]:
    """What targets speak of."""
    here = median(row["seconds"]["ours"])
    values = {"ours_s": here}
    if "published" in row["seconds"]:
        values["ratio"] = median(row["seconds"]["published"]) / here
    if row.get("memory"):
        values["ours_mb"] = row["memory"]["ours"] / 1e6
    if row["differences"]:
        values["difference"] = next(iter(row["differences"].values()))
    return values


def verdicts(row: Result) -> str:
    found = figures(row)
    return ", ".join(verdict(what, found.get(what, math.nan), limit) for what, limit in row["targets"])


def verdict(what: str, value: float, limit: float) -> str:
    units = {"ratio": "×", "ours_mb": " MB", "ours_s": " s", "difference": ""}
    met = value >= limit if what == "ratio" else value <= limit
    return f"{SIGNS[what]} {limit:g}{units[what]} {'met' if met else 'not measured' if math.isnan(value) else 'MISSED'}"


def chain(rows: Result) -> dict[str, float] | None:
    """Seconds an image of the seven steps, both sides; None while a row is missing or of another machine."""
    names = (*EPOCHS, *INFERENCE)
    if not all(name in rows for name in names) or len({rows[name]["machine"] for name in names}) > 1:
        return None
    seconds = {}
    for side in ("published", "ours"):
        trained = sum(epochs * median(rows[name]["seconds"][side]) / 2 for name, epochs in EPOCHS.items())
        seconds[side] = trained + sum(median(rows[name]["seconds"][side]) for name in INFERENCE)
    return seconds


def chain_line(rows: Result) -> str:
    seconds = chain(rows)
    assert seconds is not None
    ratio = seconds["published"] / seconds["ours"]
    target = verdict("ratio", ratio, CHAIN_TARGET)
    there, here = duration(seconds["published"]), duration(seconds["ours"])
    return f"| the seven steps, an image (sum, see below) | {there} | {here} | **{ratio:.3g}×** | {target} | – | – |"


def scaling(rows: Result, key: str, title: str, limit: float) -> list[str]:
    """Ours on growing grids, and the exponents of time and memory."""
    grids = {name.partition("@")[2]: row for name, row in rows.items() if name.startswith(f"{key}@")}
    if not grids:
        return []
    lines = [
        "",
        f"## {title}",
        "",
        "| grid | time | memory | target |",
        "| --- | --- | --- | --- |",
    ]
    for grid, row in grids.items():
        seconds, memory = duration(median(row["seconds"]["ours"])), size(row["memory"]["ours"])
        lines.append(
            f"| {grid} | {seconds} | {memory} | {verdicts(row) if row['targets'] and grid == '250x250' else '–'} |"
        )
    pixels = [math.prod(map(int, grid.split("x"))) for grid in grids]
    if len(grids) > 1:
        for what, values in (
            ("time", [median(row["seconds"]["ours"]) for row in grids.values()]),
            ("memory", [max(row["memory"]["ours"], 1) for row in grids.values()]),
        ):
            slope = exponent(pixels, values)
            met = "met" if slope <= limit else "MISSED"
            lines += ["", f"Exponent of {what} in the number of pixels: {slope:.2f} (≤ {limit} {met})."]
    return lines


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of the line through the logarithms, by least squares."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    rise = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return rise / sum((a - mean_x) ** 2 for a in x)


def loaders(rows: Result) -> list[str]:
    if "loader" not in rows:
        return []
    lines = ["", "## Loaders alone", "", "| step | loader | step | loader / step |", "| --- | --- | --- | --- |"]
    for name, loader in rows["loader"]["speeds"].items():
        speed, step = loader["images_a_second"], rows.get(name)
        if step is None:
            lines.append(f"| {name} | {speed:.1f} images/s | – | – |")
            continue
        images = 2 if name in EPOCHS else 1
        pace = images / median(step["seconds"]["ours"])
        lines.append(f"| {name} | {speed:.1f} images/s | {pace:.2f} images/s | {speed / pace:.0f}× |")
    return [*lines, "", f"{rows['loader']['workers']} threads; their start is included."]


def memory(rows: Result) -> list[str]:
    if "memory" not in rows:
        return []
    lines = [
        "",
        "## Peak memory of a step",
        "",
        "Through `run_sample.py`, in a fresh process, its workers included.",
        "",
    ]
    lines += ["| step | image | images | peak memory | time |", "| --- | --- | --- | --- | --- |"]
    for entry in rows["memory"]["entries"]:
        peak = f"> {size(entry['peak'])}, stopped" if entry["stopped"] else size(entry["peak"])
        cells = [entry["step"], entry["image"], str(entry["images"]), peak, duration(entry["seconds"])]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def duration(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def size(number: float) -> str:
    if math.isinf(number):
        return "more than there is"
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{max(number, 0) / 1e6:.0f} MB"
