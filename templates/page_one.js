// One report: what it says in words and numbers, its CPU against its GPU, and its roofline.

function drawOne(report) {
  byId("one").replaceChildren(facts(report));
  drawCurve(report);
  drawRoof(report);
  byId("measurements").replaceChildren(measurements(report));
}

function facts(report) {
  const list = html("dl");
  for (const [key, ...parts] of [...about(report), ...findings(report)]) {
    const told = parts.filter(Boolean);
    if (told.length) list.append(html("dt", {}, word(key)), html("dd", {}, ...told));
  }
  return list;
}

function about(report) {
  const { deviceName, gpus, cpu, os, driver, python, place, zone, price } = report;
  const stack = { torch: report.torch, CUDA: report.cuda, driver, Python: python };
  const versions = Object.entries(stack).filter(([, version]) => version);
  const outcome = dotted(word(report.outcome), `${minute(report.created)} UTC`, report.id);
  return [
    ["outcome", html("span", { class: report.outcome === "failed" ? "fail" : null }, outcome)],
    ["device", dotted(deviceName || word("none"), gpus > 1 && `${gpus} GPUs`, gpus && cpu)],
    ["software", dotted(...versions.map((pair) => pair.join(" ")), os)],
    [
      "machine",
      dotted(
        place,
        zone,
        report.spot && "spot",
        price ? `${money(price)} (${report.priceDate || "?"})` : word("free"),
      ),
    ],
    ["cost", money(report.usd)],
    ["signers", dotted(...report.signers)],
  ];
}

function findings(report) {
  const checks = groupBy(report.checks, (check) => check.status);
  const counts = DATA.statuses
    .filter((status) => checks.has(status))
    .map((status) => `${checks.get(status).length} ${word(CHECKED[status])}`);
  const named = ({ name }, kind) => html("strong", { class: kind }, name.replaceAll("_", " "));
  return [
    ["checks", dotted(...counts)],
    ...(checks.get("fail") || []).map((check) => [
      "fail",
      named(check, "fail"),
      `: ${check.detail} `,
      check.remedy && `${word("remedy")}: ${check.remedy}`,
    ]),
    ...(checks.get("skip") || []).map((check) => [
      "skip_status",
      named(check, null),
      `: ${check.detail}`,
    ]),
    ...report.notes.map((note) => ["note", note]),
  ];
}

const CHECKED = { pass: "pass", fail: "fail", skip: "skip_status" };

function measurements(report) {
  const heads = words(
    "what",
    "device",
    "value",
    "unit",
    "range",
    "samples",
    "of_peak",
    "at_clock",
    "bound",
    "per_joule",
    "note",
  );
  return table(
    word("measurements"),
    heads,
    report.rows.map((row) => [
      rowLabel(row),
      row.device,
      number(row.value),
      row.unit,
      `${number(row.p5)} – ${number(row.p95)}`,
      String(row.n),
      percent(row.value / (row.peak || NaN)),
      percent(row.atClock),
      row.bound ? word(row.bound) : "",
      number(row.perJoule),
      noteOf(row),
    ]),
    [2, 4, 5, 6, 7, 9],
  );
}

const noteOf = ({ stable, note }) =>
  stable
    ? note || word("steady")
    : html("span", { class: "unsteady" }, `${word("unsteady")}. ${note}`);

// Seconds of one fp32 product by its size, a line a device.
function drawCurve(report) {
  const rows = report.rows
    .filter(
      (row) =>
        row.name === "matmul" && row.dtype === "fp32" && row.size && row.flops > 0 && row.value > 0,
    )
    .map((row) => ({ ...row, seconds: row.flops / (row.value * 1e12) }))
    .sort((a, b) => a.size - b.size);
  const lines = [...groupBy(rows, (row) => row.device)];
  const sizes = [...new Set(rows.map((row) => row.size))];
  const cell = (own, size) => duration(own.find((row) => row.size === size)?.seconds);
  const numbers = table(
    word("curve_title"),
    [word("size"), ...lines.map(([device]) => device)],
    sizes.map((size) => [String(size), ...lines.map(([, own]) => cell(own, size))]),
    lines.map((_, index) => index + 1),
  );
  const drawing = sizes.length > 1 ? curvePlot(rows, lines, sizes) : null;
  show(
    "curve-chart",
    word("curve_title"),
    drawing,
    legend(lines.map(([device]) => device)),
    numbers,
    "curve_none",
  );
}

function curvePlot(rows, lines, sizes) {
  const area = areaOf("curve-chart", 300, 56);
  const x = logarithmic(sizes, area.left, area.right);
  x.ticks = sizes;
  const y = logarithmic(
    rows.map((row) => row.seconds),
    area.bottom,
    area.top,
  );
  const root = axes(area, x, y, word("size"), "", { x: String, y: duration });
  lines.forEach(([device, own], index) => {
    root.append(
      line(
        `line k${index % 8}`,
        own.map((row) => [x(row.size), y(row.seconds)]),
      ),
    );
    for (const row of own)
      root.append(
        named(
          mark(index, x(row.size), y(row.seconds)),
          `${device}, ${row.size}: ${duration(row.seconds)}`,
        ),
      );
  });
  return root;
}

// Each work of the report's own device as (FLOP per byte, TFLOP/s), and the roofs over them.
function drawRoof(report) {
  const works = [...report.own.values()]
    .filter((row) => row.flops > 0 && row.bytes > 0 && row.value > 0)
    .map((row) => ({ ...row, intensity: row.flops / row.bytes, tflops: tflopsOf(row) }));
  const roofs = roofsOf(report);
  const rows = [
    ...works.map((work) => [
      rowLabel(work),
      number(work.intensity),
      number(work.tflops),
      work.bound ? word(work.bound) : "",
    ]),
    ...roofs.map((roof) => [
      roof.label,
      "",
      number(roof.tflops ?? roof.gbps),
      roof.tflops ? "TFLOP/s" : "GB/s",
    ]),
  ];
  const numbers = table(
    word("roof_title"),
    words("what", "intensity", "tflops", "bound"),
    rows,
    [1, 2],
  );
  const canDraw =
    works.length && roofs.some((roof) => roof.gbps) && roofs.some((roof) => roof.tflops);
  show(
    "roof-chart",
    word("roof_title"),
    canDraw ? roofPlot(works, roofs) : null,
    legend(works.map(rowLabel)),
    numbers,
  );
}

const tflopsOf = (row) =>
  row.unit === "GB/s" ? (row.value * row.flops) / row.bytes / 1000 : row.value;

// The data sheet's roofs where the device is known; else what was measured, which is no limit.
function roofsOf(report) {
  const own = [...report.own.values()];
  const products = own.filter((row) => row.unit === "TFLOP/s"),
    memory = own.filter((row) => row.unit === "GB/s");
  const peaks = new Map(products.filter((row) => row.peak).map((row) => [row.dtype, row.peak]));
  const roofs = [...peaks].map(([dtype, tflops]) => ({
    label: `${dtype} ${word("sheet")}`,
    tflops,
  }));
  const fastest = (rows) => [...rows].sort((a, b) => b.value - a.value)[0];
  const product = fastest(products.filter((row) => row.name === "matmul")),
    copy = fastest(memory);
  if (!roofs.length && product)
    roofs.push({
      label: `${product.dtype} ${word("measured")}`,
      tflops: product.value,
      dashed: true,
    });
  const bandwidth = memory.find((row) => row.peak)?.peak;
  if (bandwidth) roofs.push({ label: `${word("memory_roof")} ${word("sheet")}`, gbps: bandwidth });
  else if (copy)
    roofs.push({
      label: `${word("memory_roof")} ${word("measured")}`,
      gbps: copy.value,
      dashed: true,
    });
  return roofs.filter((roof) => (roof.tflops ?? roof.gbps) > 0);
}

function roofPlot(works, roofs) {
  const area = areaOf("roof-chart", 300);
  const slope = roofs.find((roof) => roof.gbps);
  const flats = roofs
    .filter((roof) => roof.tflops)
    .sort((a, b) => b.tflops - a.tflops)
    .map((roof) => ({ ...roof, ridge: (roof.tflops * 1000) / slope.gbps }));
  const intensities = [...works.map((work) => work.intensity), ...flats.map((roof) => roof.ridge)];
  const x = logarithmic([...intensities, flats[0].ridge * 3], area.left, area.right);
  const y = logarithmic(
    [...works.map((work) => work.tflops), flats[0].tflops * 1.5],
    area.bottom,
    area.top,
  );
  const root = axes(area, x, y, word("intensity"), "TFLOP/s");
  const kind = (roof) => `line k7 ${roof.dashed ? "dashed" : ""}`;
  // From where the slope comes into the picture.
  const from = Math.max(x.low, (y.low * 1000) / slope.gbps);
  root.append(
    segment(
      kind(slope),
      x(from),
      y((from * slope.gbps) / 1000),
      x(flats[0].ridge),
      y(flats[0].tflops),
    ),
  );
  for (const roof of flats)
    root.append(
      segment(kind(roof), x(roof.ridge), y(roof.tflops), area.right, y(roof.tflops)),
      write(area.right, y(roof.tflops) - 5, `${roof.label} ${number(roof.tflops)}`, "end"),
    );
  works.forEach((work, index) =>
    root.append(
      named(
        mark(index, x(work.intensity), y(work.tflops)),
        `${rowLabel(work)}: ${number(work.tflops)} TFLOP/s, ${number(work.intensity)} FLOP/byte`,
      ),
    ),
  );
  return root;
}
