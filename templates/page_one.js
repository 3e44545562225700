// One report: what it says in words and numbers, its CPU against its GPU, and its roofline.

function drawOne(report) {
  document.getElementById("one").replaceChildren(facts(report));
  drawCurve(report);
  drawRoof(report);
  document.getElementById("measurements").replaceChildren(measurements(report));
}

function facts(report) {
  const list = html("dl");
  const say = (key, ...parts) => {
    const told = parts.filter((part) => part);
    if (told.length) list.append(html("dt", {}, word(key)), html("dd", {}, ...told));
  };
  say("outcome", html("span", { class: report.outcome === "failed" ? "fail" : "" },
    `${word(report.outcome)} · ${minute(report.created)} UTC · ${report.id}`));
  say("device", [report.deviceName || word("none"), report.gpus > 1 ? `${report.gpus} GPUs` : "",
    report.gpus ? report.cpu : ""].filter(Boolean).join(" · "));
  say("software", [["torch", report.torch], ["CUDA", report.cuda], ["driver", report.driver], ["Python", report.python]]
    .filter(([, version]) => version).map((pair) => pair.join(" ")).concat(report.os || []).join(" · "));
  say("machine", [report.place, report.zone, report.spot ? "spot" : "",
    report.price ? `${money(report.price)} (${report.priceDate || "?"})` : word("free")].filter(Boolean).join(" · "));
  say("cost", money(report.usd));
  const counted = groupBy(report.checks, (check) => check.status);
  say("checks", ["pass", "fail", "skip"].filter((status) => counted.has(status))
    .map((status) => `${counted.get(status).length} ${word(status === "skip" ? "skip_status" : status)}`).join(" · "));
  for (const check of report.checks.filter((check) => check.status === "fail"))
    say("fail", html("strong", { class: "fail" }, check.name.replaceAll("_", " ")), ` ${check.detail} `,
      check.remedy && html("span", {}, `${word("remedy")}: ${check.remedy}`));
  for (const check of report.checks.filter((check) => check.status === "skip"))
    say("skip_status", check.name.replaceAll("_", " "), ` ${check.detail}`);
  for (const note of report.notes) say("note", note);
  return list;
}

function measurements(report) {
  const headers = ["what", "device", "value", "unit", "range", "samples", "of_peak", "at_clock", "bound", "per_joule", "note"];
  return table(word("measurements"), headers.map(word), report.rows.map((row) => [
    rowLabel(row), row.device, number(row.value), row.unit, `${number(row.p5)} – ${number(row.p95)}`, String(row.n),
    percent(row.value / (row.peak || NaN)), percent(row.atClock), row.bound ? word(row.bound) : "",
    number(row.perJoule),
    row.stable ? row.note || word("steady") : html("span", { class: "unsteady" }, `${word("unsteady")}. ${row.note}`),
  ]), [2, 4, 5, 6, 7, 9]);
}

// Seconds of one fp32 product by its size, a line a device.
function drawCurve(report) {
  const rows = report.rows.filter((row) => row.name === "matmul" && row.dtype === "fp32" && row.size && row.flops > 0 && row.value > 0)
    .map((row) => ({ ...row, seconds: row.flops / (row.value * 1e12) })).sort((a, b) => a.size - b.size);
  const lines = [...groupBy(rows, (row) => row.device)];
  const sizes = [...new Set(rows.map((row) => row.size))].sort((a, b) => a - b);
  const numbers = table(word("curve_title"), [word("size"), ...lines.map(([device]) => device)],
    sizes.map((size) => [String(size), ...lines.map(([, own]) => duration(own.find((row) => row.size === size)?.seconds))]),
    lines.map((_, index) => index + 1));
  show("curve-chart", word("curve_title"), sizes.length > 1 ? curvePlot(rows, lines) : null,
    legend(lines.map(([device]) => device)), numbers, "curve_none");
}

function curvePlot(rows, lines) {
  const width = widthOf("curve-chart"), height = 300, edge = { left: 56, right: 16, top: 24, bottom: 36 };
  const x = logarithmic(rows.map((row) => row.size), edge.left, width - edge.right);
  x.ticks = [...new Set(rows.map((row) => row.size))];
  const y = logarithmic(rows.map((row) => row.seconds), height - edge.bottom, edge.top);
  const root = axes(width, height, edge, x, y, word("size"), "", { x: String, y: duration });
  lines.forEach(([device, own], index) => {
    root.append(line(own.map((row) => [x(row.size), y(row.seconds)]), { class: `line k${index}` }));
    for (const row of own) {
      root.append(mark(index, x(row.size), y(row.seconds)));
      root.lastChild.append(title(`${device}, ${row.size}: ${duration(row.seconds)}`));
    }
  });
  return root;
}

// Each work of the report's own device as (FLOP per byte, TFLOP/s), and the roofs over them.
function drawRoof(report) {
  const works = [...report.own.values()].filter((row) => row.flops > 0 && row.bytes > 0 && row.value > 0)
    .map((row) => ({ ...row, intensity: row.flops / row.bytes,
      tflops: row.unit === "GB/s" ? row.value * row.flops / row.bytes / 1000 : row.value }));
  const roofs = roofsOf(report);
  const numbers = table(word("roof_title"), [word("what"), word("intensity"), word("tflops"), word("bound")], [
    ...works.map((work) => [rowLabel(work), number(work.intensity), number(work.tflops), work.bound ? word(work.bound) : ""]),
    ...roofs.map((roof) => [roof.label, "", number(roof.tflops ?? roof.gbps), roof.tflops ? "TFLOP/s" : "GB/s"]),
  ], [1, 2]);
  const canDraw = works.length && roofs.some((roof) => roof.gbps) && roofs.some((roof) => roof.tflops);
  show("roof-chart", word("roof_title"), canDraw ? roofPlot(works, roofs) : null,
    legend(works.map(rowLabel)), numbers);
}

// The data sheet's roofs where the device is known; else what was measured, which is no limit.
function roofsOf(report) {
  const own = [...report.own.values()];
  const memory = own.find((row) => row.unit === "GB/s" && row.peak);
  const sheet = [...new Map(own.filter((row) => row.unit === "TFLOP/s" && row.peak).map((row) => [row.dtype, row.peak]))]
    .map(([dtype, tflops]) => ({ label: `${dtype} ${word("sheet")}`, tflops }));
  if (memory) sheet.push({ label: `${word("memory_roof")} ${word("sheet")}`, gbps: memory.peak });
  const fastest = (rows) => rows.reduce((best, row) => (!best || row.value > best.value ? row : best), null);
  const product = fastest(own.filter((row) => row.name === "matmul"));
  const copy = fastest(own.filter((row) => row.unit === "GB/s"));
  if (product && !sheet.some((roof) => roof.tflops))
    sheet.push({ label: `${product.dtype} ${word("measured")}`, tflops: product.value, dashed: true });
  if (copy && !memory) sheet.push({ label: `${word("memory_roof")} ${word("measured")}`, gbps: copy.value, dashed: true });
  return sheet.filter((roof) => (roof.tflops ?? roof.gbps) > 0);
}

function roofPlot(works, roofs) {
  const width = widthOf("roof-chart"), height = 300, edge = { left: 52, right: 16, top: 24, bottom: 36 };
  const slope = roofs.find((roof) => roof.gbps);
  const flats = roofs.filter((roof) => roof.tflops).sort((a, b) => b.tflops - a.tflops);
  const ridges = flats.map((roof) => roof.tflops * 1000 / slope.gbps);
  const x = logarithmic([...works.map((work) => work.intensity), ...ridges, ridges[0] * 3], edge.left, width - edge.right);
  const y = logarithmic([...works.map((work) => work.tflops), flats[0].tflops * 1.5], height - edge.bottom, edge.top);
  const root = axes(width, height, edge, x, y, word("intensity"), "TFLOP/s");
  // From where the slope comes into the picture.
  const from = Math.max(x.low, y.low * 1000 / slope.gbps);
  root.append(
    line([[x(from), y(from * slope.gbps / 1000)], [x(ridges[0]), y(flats[0].tflops)]],
      { class: `line k7 ${slope.dashed ? "dashed" : ""}` }));
  flats.forEach((roof, index) => {
    root.append(
      svg("line", { class: `line k7 ${roof.dashed ? "dashed" : ""}`, x1: x(ridges[index]), x2: width - edge.right, y1: y(roof.tflops), y2: y(roof.tflops) }),
      svg("text", { x: width - edge.right, y: y(roof.tflops) - 5, "text-anchor": "end" }, `${roof.label} ${number(roof.tflops)}`));
  });
  works.forEach((work, index) => {
    root.append(mark(index, x(work.intensity), y(work.tflops)));
    root.lastChild.append(title(`${rowLabel(work)}: ${number(work.tflops)} TFLOP/s, ${number(work.intensity)} FLOP/byte`));
  });
  return root;
}
