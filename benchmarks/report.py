"""Results of a race as a table to read, and as a picture."""

from pathlib import Path
from typing import Any

COLUMNS = (
    "entrant",
    "quickest mode",
    "tokens/s: median (min to max)",
    "jaxgpt is quicker by",
    "share of limit",
    "peak memory",
    "start to first step",
    "loss",
)


def markdown(result: dict[str, Any]) -> str:
    """Returns the table of one shape, and what its limit is."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in result["rows"]:
        rate, ratio = row["tokens_per_second"], row["jaxgpt_is_quicker_by"]
        cells = (
            row["entrant"],
            row["mode"],
            f"{rate['median']:,.0f} ({rate['min']:,.0f} to {rate['max']:,.0f})",
            "" if row is result["rows"][0] else f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})",
            f"{row['share_of_limit']:.0%}",
            f"{row['peak_mb']:,.0f} MB",
            f"{row['first_step_seconds']:.1f} s",
            f"{row['loss'][0]:.3f} to {row['loss'][1]:.3f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    limit, shape = result["limit"], result["shape"]
    rates = ", ".join(f"{rate / 1e9:,.0f} GFLOP/s in {dtype}" for dtype, rate in limit["flops_per_second"].items())
    lines += [
        "",
        f"Limit, measured on {limit['device']}: {rates}; copy {limit['bytes_per_second'] / 1e9:,.1f} GB/s. "
        f"A token costs {shape['flops_per_token'] / 1e6:,.1f} MFLOP (6 N + 12 L D T, N = {shape['matrix_params']:,}).",
    ]
    return "\n".join(lines)


def plot_rates(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Writes a bar for every entrant of every shape: median tokens per second, with the range over the rounds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(results), figsize=(4.5 * len(results), 3.2), squeeze=False)
    for axis, (name, result) in zip(axes[0], results.items(), strict=True):
        rows = result["rows"]
        medians = [row["tokens_per_second"]["median"] for row in rows]
        below = [row["tokens_per_second"]["median"] - row["tokens_per_second"]["min"] for row in rows]
        above = [row["tokens_per_second"]["max"] - row["tokens_per_second"]["median"] for row in rows]
        colors = ["tab:blue"] + ["tab:gray"] * (len(rows) - 1)
        axis.barh([f"{row['entrant']}\n{row['mode']}" for row in rows], medians, xerr=[below, above], color=colors)
        axis.invert_yaxis()
        axis.set_title(f"{name}: tokens/s in training")
        axis.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
