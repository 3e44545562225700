"""Charts of what was measured; where there is no matplotlib, the numbers in a table."""

COLOURS = {"cpu": "tab:blue", "cuda": "tab:green", "mps": "tab:green"}


def draw(rows):
    """Draw the measurements: how fast, how fast by size, how fast the memory is."""
    try:
        import matplotlib.pyplot as plt
    except ImportError:
        print("There is no matplotlib here, so these are the numbers without a picture.")
        for row in rows:
            print(f"{_label(row):<36} {row['value']:>12,.4g} {row['unit']}")
        return
    charts = [chart for chart in _charts(rows) if chart[1]]
    figure = plt.figure(figsize=(11, 3 * (len(charts) + 1) // 2), layout="constrained")
    for number, (title, chosen, kind) in enumerate(charts, start=1):
        ax = figure.add_subplot((len(charts) + 1) // 2, 2, number)
        ax.set_title(title)
        kind(ax, chosen)
    plt.show()


def _charts(rows):
    """Each chart: its title, its measurements, and how they are drawn."""
    products = [row for row in rows if row["name"] == "matmul"]
    large = {row["params"]["device"]: 0 for row in products}
    for row in products:
        device = row["params"]["device"]
        large[device] = max(large[device], row["params"]["m"])
    fastest = [row for row in products if row["params"]["m"] == large[row["params"]["device"]]]
    small = [row for row in products if row not in fastest]
    by_size = [row for row in small + fastest if row["params"]["dtype"] == "fp32"]
    return [
        ("Matrix products, TFLOP/s", fastest, _bars),
        ("One product in fp32, seconds", by_size if small else [], _lines),
        ("Memory bandwidth, GB/s", [r for r in rows if r["unit"] == "GB/s"], _bars),
        ("Training, tokens/s", [r for r in rows if r["name"] == "training"], _bars),
    ]


def _bars(ax, rows):
    """One bar a measurement, with the range that 90% of its samples lie in."""
    labels = [f"{_label(row)}: {_number(row['value'])}" for row in rows]
    ranges = [
        [max(0.0, row["value"] - row["p5"]) for row in rows],
        [max(0.0, row["p95"] - row["value"]) for row in rows],
    ]
    colours = [COLOURS.get(row["params"]["device"], "tab:gray") for row in rows]
    ax.barh(labels, [row["value"] for row in rows], xerr=ranges, color=colours, capsize=3)
    ax.invert_yaxis()


def _lines(ax, rows):
    """Seconds for one product against its size, a line a device: where they cross, they swap."""
    for device in dict.fromkeys(row["params"]["device"] for row in rows):
        own = sorted((r for r in rows if r["params"]["device"] == device), key=_size)
        seconds = [row["flops"] / (row["value"] * 1e12) for row in own if row["value"]]
        sizes = [_size(row) for row in own if row["value"]]
        ax.loglog(sizes, seconds, marker="o", label=device, color=COLOURS.get(device))
    ax.set_xlabel("rows and columns")
    ax.legend()


def _size(row):
    return row["params"]["m"]


def _label(row):
    params = row["params"]
    name = row["name"].replace("_", " ").replace("matmul", "product")
    return f"{name} {params.get('dtype', '')} {params['device']}"


def _number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
