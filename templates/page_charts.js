// The charts of many reports. Each takes those that the filters let through, and shows its table.

const MOST_ROWS = 40;

// The runs of one number, each with its report, those of one machine together.
function machines(reports, measure) {
  const runs = reports.filter((report) => report.own.get(measure)?.value > 0)
    .map((report) => ({ report, ...report.own.get(measure) }));
  return [...groupBy(runs, ({ report }) =>
    [report.deviceName, report.place, report.spot, report.price].join("\n")).values()].map((own) => ({
    runs: own, device: own[0].report.deviceName, place: own[0].report.place, unit: own[0].unit,
    provider: own[0].report.provider, price: own[0].report.price,
    speed: median(own.map((run) => run.value)),
  }));
}

function drawPrice(reports, measure) {
  const all = machines(reports, measure).sort((a, b) => b.speed - a.speed);
  const providers = [...new Set(all.map((machine) => machine.provider))].sort();
  const numbers = table(word("price_title"),
    [word("device"), word("where"), word("runs"), `${word("speed")}, ${all[0]?.unit}`, word("price"), word("per_usd")],
    all.slice(0, MOST_ROWS).map((machine) => [
      machine.device, machine.place, machine.runs.length, number(machine.speed),
      machine.price ? money(machine.price) : word("free"),
      machine.price ? `${number(machine.speed * 3600 / machine.price)} ${machine.unit.replace("/s", "")}` : "",
    ]), [2, 3, 4, 5]);
  show("price-chart", word("price_title"),
    all.length ? pricePlot(all, providers) : null, legend(providers), numbers);
}

function pricePlot(all, providers) {
  const width = widthOf("price-chart"), height = 340;
  const edge = { left: 52, right: 16, top: 24, bottom: 36 };
  const paid = all.filter((machine) => machine.price > 0);
  // What is free has a lane of its own, since no logarithm has a zero.
  const lane = paid.length === all.length ? 0 : paid.length ? 64 : width - edge.left - edge.right;
  const x = logarithmic(paid.length ? paid.map((machine) => machine.price) : [1],
    edge.left + lane, width - edge.right);
  if (!paid.length) x.ticks = [];
  const at = (machine) => (machine.price > 0 ? x(machine.price) : edge.left + lane / 2);
  const y = logarithmic(all.map((machine) => machine.speed), height - edge.bottom, edge.top);
  const root = axes(width, height, edge, x, y, word("price"), all[0].unit,
    { x: (value) => `$${number(value)}`, y: number });
  if (lane)
    root.append(
      svg("text", { x: edge.left + lane / 2, y: height - edge.bottom + 16, "text-anchor": "middle" }, word("free")),
      svg("line", { class: "grid dashed", x1: edge.left + lane, x2: edge.left + lane, y1: edge.top, y2: height - edge.bottom }));
  const best = frontier(all);
  root.append(line(best.flatMap((machine, index) => {
    const next = best[index + 1];
    const end = next ? at(next) : width - edge.right;
    return [[at(machine), y(machine.speed)], [end, y(machine.speed)]];
  }), { class: "line k7 dashed" }));
  for (const machine of all)
    root.append(mark(providers.indexOf(machine.provider), at(machine), y(machine.speed)),
      svg("circle", { cx: at(machine), cy: y(machine.speed), r: 9, "fill-opacity": 0 },
        title(`${machine.device}, ${machine.place}: ${number(machine.speed)} ${machine.unit}, ` +
          (machine.price ? money(machine.price) : word("free")))));
  placeNames(root, [...all].sort((a, b) => best.includes(a) - best.includes(b)), at, y, width);
  return root;
}

// What nothing beats at its price or below: cheapest first.
function frontier(all) {
  const best = [];
  for (const machine of [...all].sort((a, b) => a.price - b.price || b.speed - a.speed))
    if (!best.length || machine.speed > best[best.length - 1].speed) best.push(machine);
  return best;
}

// Names where there is room; the last ones have the first choice.
function placeNames(root, machines, at, y, width) {
  const taken = [];
  for (const machine of machines.reverse()) {
    const text = clip(machine.device.replace(/^(NVIDIA|Tesla) /, ""), 24);
    const toLeft = at(machine) + text.length * 6.5 > width;
    const box = { x: at(machine) - (toLeft ? text.length * 6.5 : 0), y: y(machine.speed), w: text.length * 6.5 };
    if (taken.some((other) => Math.abs(other.y - box.y) < 14 && box.x < other.x + other.w && other.x < box.x + box.w))
      continue;
    taken.push(box);
    root.append(svg("text", { class: "name", x: at(machine) + (toLeft ? -8 : 8), y: y(machine.speed) - 7,
      "text-anchor": toLeft ? "end" : "start" }, text));
  }
}

function drawSpread(reports, measure) {
  const devices = [...groupBy(machines(reports, measure).flatMap((machine) => machine.runs),
    (run) => run.report.deviceName)].map(([device, runs]) => {
    const values = runs.map((run) => run.value);
    const [least, low, middle, high, most] = [0, 0.25, 0.5, 0.75, 1].map((part) => quantile(values, part));
    return { device, values, unit: runs[0].unit, least, low, middle, high, most };
  }).sort((a, b) => b.middle - a.middle).slice(0, MOST_ROWS);
  const numbers = table(word("spread_title"),
    [word("device"), word("runs"), "least", "quarter", "median", "three_quarters", "most"]
      .map((key) => word(key)),
    devices.map((own) => [own.device, own.values.length,
      ...[own.least, own.low, own.middle, own.high, own.most].map(number)]), [1, 2, 3, 4, 5, 6]);
  show("spread-chart", word("spread_title"),
    devices.length ? spreadPlot(devices.slice(0, 14)) : null, null, numbers);
}

// Each device against its own median, so that a T4 can be seen beside an H100.
function spreadPlot(devices) {
  const width = widthOf("spread-chart"), step = 40, edge = { left: 10, right: 16, top: 4, bottom: 36 };
  const height = devices.length * step + edge.top + edge.bottom;
  const off = Math.max(...devices.flatMap((own) => [own.most / own.middle - 1, 1 - own.least / own.middle]));
  const most = Math.min(0.5, Math.max(0.05, off * 1.05));
  const x = linear(-most, most, edge.left + 6, width - edge.right);
  const root = axes(width, height, edge, x, null, word("from_median"), "",
    { x: (value) => `${value > 0 ? "+" : ""}${number(value * 100) || 0}%` });
  devices.forEach((own, index) => {
    const middle = edge.top + index * step + 28, at = (value) => x(value / own.middle - 1);
    root.append(svg("text", { class: "name", x: edge.left, y: middle - 13 },
      `${clip(own.device, 36)} · ${number(own.middle)} ${own.unit}`));
    for (const [place, value] of own.values.slice(0, 200).entries())
      root.append(svg("circle", { class: "dot k1", r: 3, cx: at(value), cy: middle + ((place * 7) % 9) - 4, stroke: "none" }));
    if (own.values.length > 2)
      root.append(
        svg("rect", { class: "box k1", x: at(own.low), width: Math.max(2, at(own.high) - at(own.low)), y: middle - 7, height: 14, rx: 2 },
          title(`${own.device}: ${number(own.low)} – ${number(own.middle)} – ${number(own.high)} ${own.unit}`)),
        svg("line", { class: "line k1", x1: x(0), x2: x(0), y1: middle - 9, y2: middle + 9 }));
  });
  return root;
}

// Each run against those before it: see the rule below the chart's heading.
function judged(runs) {
  return runs.map((run, index) => {
    const before = [];
    for (let at = index - 1; at >= 0 && before.length < 5; at -= 1)
      if (runs[at].report.program === run.report.program) before.push(runs[at]);
    if (before.length < 3) return { ...run, slower: false };
    const usual = median(before.map((other) => other.value));
    const slower = run.value < 0.95 * usual && run.p95 < Math.min(...before.map((other) => other.p5));
    return { ...run, change: run.value / usual - 1, slower };
  });
}

function drawHistory(reports, measure, series) {
  const runs = runsOf(reports.filter((report) => seriesOf(report) === series), measure);
  const rows = runs.map((run, index) => [
    minute(run.report.created), number(run.value), `${number(run.p5)} – ${number(run.p95)}`,
    run.change === undefined ? "" : `${run.change >= 0 ? "+" : ""}${(run.change * 100).toFixed(1)}%`,
    run.slower ? html("span", { class: "fail" }, `▼ ${word("slower")}`) : "",
    index ? changes(runs[index - 1].report, run.report) : "", run.report.id]);
  const numbers = table(word("history_title"),
    [word("created"), `${word("median")}, ${runs[0]?.unit}`, word("range"), word("change"), "", word("changed"), word("report")],
    rows.reverse().slice(0, 200), [1, 2, 3]);
  show("history-chart", word("history_title"), runs.length ? historyPlot(runs.slice(-120)) : null, null, numbers);
}

const runsOf = (reports, measure) => judged(reports.filter((report) => report.own.has(measure))
  .map((report) => ({ report, ...report.own.get(measure) }))
  .sort((a, b) => (a.report.created < b.report.created ? -1 : 1)));

const seriesOf = (report) => [report.deviceName, report.place].join(" · ");

function changes(before, now) {
  return ["torch", "cuda", "driver", "python", "os", "zone"]
    .filter((name) => before[name] !== now[name])
    .map((name) => `${name} ${before[name] || "–"} → ${now[name] || "–"}`).join("; ");
}

function historyPlot(runs) {
  const width = widthOf("history-chart"), height = 260, edge = { left: 52, right: 34, top: 24, bottom: 36 };
  const x = linear(0, Math.max(1, runs.length - 1), edge.left + 12, width - edge.right);
  const dates = Math.max(1, Math.ceil(runs.length / Math.max(2, Math.floor(width / 120))));
  x.ticks = runs.map((_, index) => index).filter((index) => index % dates === 0);
  // One that is a thousand times faster than the others is drawn at the top, and lets them be seen.
  const high = Math.min(Math.max(...runs.map((run) => run.p95)), 3 * median(runs.map((run) => run.value)));
  const y = linear(0, high * 1.05, height - edge.bottom, edge.top);
  const root = axes(width, height, edge, x, y, word("created"), runs[0].unit,
    { x: (index) => runs[index].report.created.slice(0, 10), y: number });
  root.append(line(runs.map((run, index) => [x(index), y(run.value)]), { class: "line k0" }));
  runs.forEach((run, index) => {
    root.append(
      svg("line", { class: "line k0", x1: x(index), x2: x(index), y1: y(run.p5), y2: y(run.p95), "stroke-opacity": 0.45 }),
      mark(0, x(index), y(run.value), { "fill-opacity": run.stable ? 1 : 0.3 }));
    root.lastChild.append(title(`${minute(run.report.created)}: ${number(run.value)} ${run.unit}`));
    if (run.slower)
      root.append(svg("text", { class: "slow", x: x(index), y: y(run.value) + 20, "text-anchor": "middle" }, "▼"));
  });
  return root;
}

function drawLedger(reports) {
  const places = [...groupBy(reports.filter((report) => report.phases.length), (report) => report.place)]
    .map(([place, own]) => ({ place, own })).sort((a, b) => b.own.length - a.own.length).slice(0, 10);
  const rows = places.flatMap(({ place, own }) => [...phaseRows(place, own)]);
  const numbers = table(word("ledger_title"),
    ["where", "phase", "runs", "seconds_median", "seconds_predicted", "seconds_all", "usd"].map((key) => word(key)),
    rows, [2, 3, 4, 5, 6]);
  show("ledger-chart", word("ledger_title"),
    places.length ? ledgerPlot(places) : null, legend(DATA.phases.map((phase) => word(phase)), square), numbers);
}

function* phaseRows(place, own) {
  for (const phase of DATA.phases) {
    const parts = own.flatMap((report) => report.phases.filter((part) => part.phase === phase));
    if (parts.length)
      yield [place, word(phase), parts.length, number(median(parts.map((part) => part.seconds))),
        number(median(parts.map((part) => part.forecast))),
        number(sum(parts.map((part) => part.seconds))), money(sum(parts.map((part) => part.usd)))];
  }
  yield [place, html("strong", {}, word("sum")), own.length, "", "",
    number(sum(own.flatMap((report) => report.phases.map((part) => part.seconds)))),
    money(sum(own.map((report) => report.usd)))];
}

function ledgerPlot(places) {
  const width = widthOf("ledger-chart"), step = 46, edge = { left: 8, right: 16, top: 4, bottom: 36 };
  const height = places.length * step + edge.top + edge.bottom;
  const parts = places.map(({ own }) => DATA.phases.map((phase) => {
    const found = own.flatMap((report) => report.phases.filter((part) => part.phase === phase));
    return found.length ? median(found.map((part) => part.seconds)) : 0;
  }));
  const longest = parts.map(sum);
  const x = linear(0, Math.min(Math.max(...longest), 20 * median(longest)) || 1, edge.left, width - edge.right);
  const root = axes(width, height, edge, x, null, word("seconds_median"), "");
  places.forEach(({ place, own }, index) => {
    const top = edge.top + index * step;
    root.append(svg("text", { class: "name", x: edge.left, y: top + 14 },
      `${clip(place, 40)} · ${sentence("so_many", { n: own.length })} · ${money(sum(own.map((report) => report.usd)))}`));
    let reached = 0;
    parts[index].forEach((seconds, phase) => {
      if (!seconds) return;
      root.append(svg("rect", { class: `k${phase}`, stroke: "none", x: x(reached), y: top + 20, height: 16,
        width: Math.max(1, x(reached + seconds) - x(reached) - 1) },
      title(`${place}, ${word(DATA.phases[phase])}: ${number(seconds)} s`)));
      reached += seconds;
    });
  });
  return root;
}
