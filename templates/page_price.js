// Speed against price, and how widely the runs of a device lie apart.

const MOST_ROWS = 40,
  MOST_DEVICES = 14,
  MOST_DOTS = 200;

// The runs of one number, each with its report, those of one machine together.
function machines(reports, measure) {
  const runs = reports
    .filter((report) => report.own.get(measure)?.value > 0)
    .map((report) => ({ report, ...report.own.get(measure) }));
  const machine = ({ report }) =>
    [report.deviceName, report.place, report.spot, report.price].join("\n");
  return [...groupBy(runs, machine).values()].map((own) => {
    const { deviceName, place, provider, price } = own[0].report;
    const speed = median(own.map((run) => run.value));
    return { runs: own, device: deviceName, place, provider, price, unit: own[0].unit, speed };
  });
}

function drawPrice(reports, measure) {
  const all = machines(reports, measure).sort((a, b) => b.speed - a.speed);
  const providers = [...new Set(all.map((machine) => machine.provider))].sort();
  const heads = [
    ...words("device", "where", "runs"),
    `${word("speed")}, ${all[0]?.unit}`,
    ...words("price", "per_usd"),
  ];
  const numbers = table(
    word("price_title"),
    heads,
    all.slice(0, MOST_ROWS).map(priceRow),
    [2, 3, 4, 5],
  );
  show(
    "price-chart",
    word("price_title"),
    all.length ? pricePlot(all, providers) : null,
    legend(providers),
    numbers,
  );
}

function priceRow({ device, place, runs, speed, price, unit }) {
  const work = price ? `${number((speed * 3600) / price)} ${unit.replace("/s", "")}` : "";
  return [device, place, runs.length, number(speed), priceText(price), work];
}

const priceText = (price) => (price ? money(price) : word("free"));

function pricePlot(all, providers) {
  const area = areaOf("price-chart", 340);
  const { at, x, lane } = priceScale(area, all);
  const y = logarithmic(
    all.map((machine) => machine.speed),
    area.bottom,
    area.top,
  );
  const dollars = { x: (value) => `$${number(value)}`, y: number };
  const root = axes(area, x, y, word("price"), all[0].unit, dollars);
  if (lane)
    root.append(
      write(area.left + lane / 2, area.bottom + 16, word("free"), "middle"),
      segment("grid dashed", area.left + lane, area.top, area.left + lane, area.bottom),
    );
  const best = frontier(all);
  const steps = best.flatMap((machine, index) => {
    const end = best[index + 1] ? at(best[index + 1]) : area.right;
    return [at(machine), end].map((place) => [place, y(machine.speed)]);
  });
  root.append(line("line k7 dashed", steps));
  for (const machine of all) {
    const about = `${machine.device}, ${machine.place}: ${number(machine.speed)} ${machine.unit}, ${priceText(machine.price)}`;
    root.append(
      named(mark(providers.indexOf(machine.provider), at(machine), y(machine.speed)), about),
    );
  }
  placeNames(
    root,
    [...all].sort((a, b) => best.includes(a) - best.includes(b)),
    at,
    y,
    area,
  );
  return root;
}

// Where a machine stands by its price. What is free has a lane of its own: no logarithm has a zero.
function priceScale(area, all) {
  const paid = all.filter((machine) => machine.price > 0).map((machine) => machine.price);
  const lane = paid.length === all.length ? 0 : paid.length ? 64 : area.right - area.left;
  const x = logarithmic(paid.length ? paid : [1], area.left + lane, area.right);
  if (!paid.length) x.ticks = [];
  const at = (machine) => (machine.price > 0 ? x(machine.price) : area.left + lane / 2);
  return { at, x, lane };
}

// What nothing beats at its price or below: cheapest first.
function frontier(all) {
  const best = [];
  for (const machine of [...all].sort((a, b) => a.price - b.price || b.speed - a.speed))
    if (!best.length || machine.speed > best[best.length - 1].speed) best.push(machine);
  return best;
}

// Names where there is room; the last ones have the first choice.
function placeNames(root, machines, at, y, area) {
  const taken = [];
  for (const machine of machines.reverse()) {
    const text = clip(machine.device.replace(/^(NVIDIA|Tesla) /, ""), 24);
    const w = text.length * 6.5,
      toLeft = at(machine) + w > area.width;
    const box = { x: at(machine) - (toLeft ? w : 0), y: y(machine.speed), w };
    const meets = (other) =>
      Math.abs(other.y - box.y) < 14 && box.x < other.x + other.w && other.x < box.x + box.w;
    if (taken.some(meets)) continue;
    taken.push(box);
    root.append(
      write(at(machine) + (toLeft ? -8 : 8), box.y - 7, text, toLeft ? "end" : "start", "name"),
    );
  }
}

function drawSpread(reports, measure) {
  const runs = machines(reports, measure).flatMap((machine) => machine.runs);
  const devices = [...groupBy(runs, (run) => run.report.deviceName)]
    .map(([device, own]) => ({ device, unit: own[0].unit, values: own.map((run) => run.value) }))
    .map((own) => ({
      ...own,
      parts: [0, 0.25, 0.5, 0.75, 1].map((part) => quantile(own.values, part)),
    }))
    .sort((a, b) => b.parts[2] - a.parts[2])
    .slice(0, MOST_ROWS);
  const heads = words("device", "runs", "least", "quarter", "median", "three_quarters", "most");
  const rows = devices.map((own) => [own.device, own.values.length, ...own.parts.map(number)]);
  const drawing = devices.length ? spreadPlot(devices.slice(0, MOST_DEVICES)) : null;
  show(
    "spread-chart",
    word("spread_title"),
    drawing,
    null,
    table(word("spread_title"), heads, rows, [1, 2, 3, 4, 5, 6]),
  );
}

// Each device against its own median, so that a T4 can be seen beside an H100.
function spreadPlot(devices) {
  const step = 40,
    area = areaOf("spread-chart", devices.length * step + 40, 10, 16, 4);
  const off = devices.flatMap(({ parts }) => [parts[4] / parts[2] - 1, 1 - parts[0] / parts[2]]);
  const most = Math.min(0.5, Math.max(0.05, Math.max(...off) * 1.05));
  const x = linear(-most, most, area.left + 6, area.right);
  const percents = { x: (value) => `${value > 0 ? "+" : ""}${number(value * 100) || 0}%` };
  const root = axes(area, x, null, word("from_median"), "", percents);
  devices.forEach((own, index) =>
    root.append(...spreadMarks(own, area.top + index * step + 28, area.left, x)),
  );
  return root;
}

function* spreadMarks({ device, unit, values, parts }, y, left, x) {
  const at = (value) => x(value / parts[2] - 1);
  yield write(left, y - 13, `${clip(device, 36)} · ${number(parts[2])} ${unit}`, "start", "name");
  for (const [index, value] of values.slice(0, MOST_DOTS).entries())
    yield svg("circle", {
      class: "dot k1",
      r: 3,
      cx: at(value),
      cy: y + ((index * 7) % 9) - 4,
      stroke: "none",
    });
  if (values.length < 3) return;
  const width = Math.max(2, at(parts[3]) - at(parts[1]));
  const box = svg("rect", { class: "box k1", x: at(parts[1]), y: y - 7, width, height: 14, rx: 2 });
  yield named(box, `${device}: ${parts.slice(1, 4).map(number).join(" – ")} ${unit}`);
  yield segment("line k1", x(0), y - 9, x(0), y + 9);
}
