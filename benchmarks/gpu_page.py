"""The page of gpu_check: Markdown from the results of its parts. A part that is not there is left out."""

from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.report import duration, size

Result = dict[str, Any]
STEPS = (
    "train_cam", "make_cam", "make_boundary_label", "train_sbe_boundary", "make_sem_seg", "train_deeplab",
    "make_deeplab_seg",
)  # fmt: skip
EQUAL = 0.01  # of how far the weights moved: two processes trained as one

COMPARED = (
    "Generated photographs, weights by formula (not trained), all published settings. CAMs and boundaries lie in",
    "[0, 1]; of label maps, the share of pixels that differ from the CPU's.",
)
MEASURED = (
    "Generated photographs of 500×375, weights by formula, published settings; each step as its own run, in its own",
    "process, all cores loading. Of trainings: steps once the loaders run at their pace; of the others: what many",
    "images take beyond a few, so without loading the network. `first`: a few images, or the steps before, with all",
    "that the first use of a card costs. `busy`: the share of the time, between the first kernel and the last, in",
    "which a kernel ran, under the profiler. `utilisation`: what the driver says, the mean of looks every .1 s.",
)


def page(results: dict[str, Result], *, seconds: float, tiny: bool) -> str:
    lines = ["# GPU check", ""]
    if tiny:
        lines += ["Tiny inputs: it shows that the program runs, and its figures mean nothing.", ""]
    lines += facts(results.get("facts", {}), seconds)
    failed = [f"- {part}: {outcome['failed']}" for part, outcome in results.items() if "failed" in outcome]
    if failed:
        lines += ["", "## Failed", "", *failed]
    not_run = [f"- {part}: {outcome['not_run']}" for part, outcome in results.items() if "not_run" in outcome]
    if not_run:
        lines += ["", "## Not run", "", *not_run]
    sections: tuple[tuple[str, Callable[[Result], list[str]]], ...] = (
        ("golden", golden), ("compare", compared), ("ranks", ranks), ("walk", walk), ("crf", crf),
    )  # fmt: skip
    for part, section in sections:
        if "result" in results.get(part, {}):
            lines += ["", *section(results[part]["result"])]
    measured = {step: results[step]["result"] for step in STEPS if "result" in results.get(step, {})}
    if measured:
        lines += ["", *steps(measured)]
    return "\n".join([*lines, ""])


def facts(outcome: Result, seconds: float) -> list[str]:
    rows = outcome.get("result", {}).get("rows", [])
    return table(("", ""), [*rows, ("took", f"{seconds:.0f} s")])


def golden(result: Result) -> list[str]:
    counts = f"{result['passed']} passed, {len(result['failed'])} failed, {result['skipped']} skipped"
    lines = ["## Golden tests on this device", "", f"{counts}; in float32 without TF32, tolerances as on a CPU."]
    return lines + (["", *(f"- {name}" for name in result["failed"])] if result["failed"] else [])


def compared(result: Result) -> list[str]:
    height, width = result["size"]
    rows = [
        (
            row["way"],
            *(f"{row[f'{name}_{what}']:.1e}" for name in ("cam", "edge") for what in ("rms", "max")),
            *(share(row[name]) for name in ("boundary_label", "mask", "crf_mask")),
        )
        for row in result["rows"]
    ]
    names = ("", "CAM, rms", "largest", "boundary, rms", "largest", "boundary label", "mask", "mask + CRF")
    title = f"## Against the CPU: {result['photographs']} photographs of {width}×{height}"
    return [title, "", *table(names, rows), "", *COMPARED]


def ranks(result: Result) -> list[str]:
    rows = []
    for row in result["rows"]:
        equal = "yes" if row["difference"] <= EQUAL * row["moved"] or row["difference"] <= 1e-5 else "NO"
        rows.append((row["step"], f"{row['difference']:.1e}", small(row["moved"] or None), equal))
    names = ("training", "largest difference of a weight", "farthest a weight moved", "as one process")
    return ["## Two processes against one", "", *table(names, rows)]


def walk(result: Result) -> list[str]:
    height, width = result["grid"]
    rows = [
        (row["where"], duration(row["seconds"]), number(row.get("kernels")), small(row.get("largest_difference")))
        for row in result["rows"]
    ]
    names = ("", "time", "kernels", "largest difference from one core")
    return [f"## Random walk, {height}×{width}, two classes", "", *table(names, rows)]


def crf(result: Result) -> list[str]:
    height, width = result["size"]
    rows = [
        (
            str(row["labels"]),
            row["where"],
            duration(row["seconds"]),
            f"{duration(row['seconds_threads'])} ({row['threads']} threads)",
            share(row["differ"]),
        )
        for row in result["rows"]
    ]
    names = ("labels", "", "an image, one thread", "an image, threads", "pixels that differ")
    return [f"## Dense CRF, {width}×{height}, filters included", "", *table(names, rows)]


def steps(measured: dict[str, Result]) -> list[str]:
    rows = []
    for step, row in measured.items():
        memory = row["memory"]
        rows.append(
            (
                step,
                f"{row['images']} in {duration(row['seconds'])}",
                f"{row['speed']:.3g}",
                f"{row['first_images']} in {duration(row['first_seconds'])}",
                "–"
                if row["kernels"] is None
                else f"{number(row['kernels'])} {'an' if row['unit'] == 'image' else 'a'} {row['unit']}",
                percent(row["busy"]),
                "–" if row["utilisation"] is None else f"{row['utilisation']:.0f} %",
                "–" if memory is None else f"{size(memory['allocated'])} / {size(memory['reserved'])}",
            )
        )
    names = ("step", "images", "images/s", "first", "kernels", "busy", "utilisation", "peak memory, tensors / held")
    return ["## The steps", "", *table(names, rows), "", *MEASURED]


def table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (names, ["---"] * len(names), *rows)]


def share(value: float) -> str:
    return "none" if value == 0 else f"{100 * value:.2g} %"


def percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"


def small(value: float | None) -> str:
    return "–" if value is None else f"{value:.1e}"
