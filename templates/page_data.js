// The reports, out of the page's rows; the words of the reader's language; numbers as people read them.

const byId = (id) => document.getElementById(id);
const WORDS = JSON.parse(byId("words").textContent);
const DATA = JSON.parse(byId("data").textContent);
let language = "en";

function word(key) {
  const known = Object.hasOwn(WORDS, key) ? WORDS[key] : [key, key];
  return known[language === "zh" ? 1 : 0];
}

function sentence(key, values) {
  return word(key).replace(/\{(\w+)\}/g, (_, name) => values[name]);
}

const words = (...keys) => keys.map(word);
const dotted = (...parts) => parts.filter(Boolean).join(" · ");

const KINDS = DATA.kinds.map(([name, device, dtype, size, unit, flops, bytes, peak, bound]) => ({
  name,
  device,
  dtype,
  size,
  unit,
  flops,
  bytes,
  peak,
  bound,
}));

const REPORTS = DATA.reports.map((row, index) => {
  const [
    id,
    created,
    outcome,
    environment,
    machine,
    run,
    usd,
    predicted,
    phases,
    checks,
    measured,
    notes,
    signers,
  ] = row;
  const [device, deviceName, os, python, torch, cuda, driver, cpu, threads, memory, gpus] =
    DATA.environments[environment];
  const [provider, zone, type, spot, price, priceDate] = DATA.machines[machine];
  const [workload, profile, program] = DATA.runs[run];
  return {
    index,
    id,
    created,
    usd,
    predicted,
    outcome: DATA.outcomes[outcome],
    device,
    deviceName: deviceName || "",
    os,
    python,
    torch,
    cuda,
    driver,
    cpu,
    threads,
    memory,
    gpus,
    provider,
    zone,
    type,
    spot,
    price,
    priceDate,
    place: [provider, type].filter(Boolean).join(" "),
    workload,
    profile,
    program,
    phases: phases.map(([phase, seconds, forecast, cost]) => ({
      phase: DATA.phases[phase],
      seconds,
      forecast,
      usd: cost,
    })),
    checks: checks.map(([status, name, detail, remedy]) => ({
      status: DATA.statuses[status],
      name: DATA.texts[name],
      detail: DATA.texts[detail] || "",
      remedy: DATA.texts[remedy] || "",
    })),
    rows: measured.map(([kind, value, p5, p95, n, stable, note, atClock, perJoule]) => ({
      ...KINDS[kind],
      value,
      p5,
      p95,
      n,
      stable: stable === 1,
      note: DATA.texts[note] || "",
      atClock,
      perJoule,
    })),
    notes: notes.map((note) => DATA.texts[note]),
    signers: signers.map((name) => DATA.texts[name]),
  };
});

// What was measured on the device that the report is about; of a matrix product the largest.
for (const report of REPORTS) {
  report.own = new Map();
  for (const row of report.rows) {
    if (row.device !== report.device) continue;
    const key = [row.name, row.dtype, row.unit].join("\n");
    const known = report.own.get(key);
    if (!known || row.size > known.size) report.own.set(key, row);
  }
}

function measureLabel(key) {
  const [name, dtype, unit] = key.split("\n");
  return `${word(name)} ${dtype}, ${unit}`;
}

function rowLabel(row) {
  return [word(row.name), row.dtype, row.name === "matmul" && row.size ? `n = ${row.size}` : ""]
    .filter(Boolean)
    .join(" ");
}

function groupBy(items, keyOf) {
  const groups = new Map();
  for (const item of items) {
    const key = keyOf(item);
    if (groups.has(key)) groups.get(key).push(item);
    else groups.set(key, [item]);
  }
  return groups;
}

// By linear interpolation, as the benchmark reckons its own.
function quantile(values, part) {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (sorted.length - 1) * part;
  const below = sorted[Math.floor(at)];
  return below + (sorted[Math.ceil(at)] - below) * (at - Math.floor(at));
}

const median = (values) => quantile(values, 0.5);
const sum = (values) => values.reduce((total, value) => total + value, 0);

const GROUPED = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

function number(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "";
  const size = Math.abs(value);
  if (size >= 1e9) return value.toExponential(1).replace("e+", "e");
  if (size >= 100) return GROUPED.format(value);
  return size && size < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(3)));
}

function money(value) {
  if (value === 0 || value >= 0.005) return `$${value.toFixed(2)}`;
  return value >= 0.00005 ? `$${value.toFixed(4)}` : "< $0.0001";
}

function duration(seconds) {
  const [factor, unit] = seconds >= 1 ? [1, "s"] : seconds >= 1e-3 ? [1e3, "ms"] : [1e6, "µs"];
  return Number.isFinite(seconds)
    ? `${number(Number((seconds * factor).toPrecision(3)))} ${unit}`
    : "";
}

const percent = (value) => (Number.isFinite(value) ? `${(value * 100).toFixed(0)}%` : "");
const minute = (moment) => moment.slice(0, 16).replace("T", " ");
