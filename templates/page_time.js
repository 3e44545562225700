// One machine over time, and where time and money went.

const MOST_RUNS = 120,
  MOST_PAST = 200,
  MOST_PLACES = 10;

// Each run against those before it: see the rule below the chart's heading.
function judged(runs) {
  return runs.map((run, index) => {
    const before = [];
    for (let at = index - 1; at >= 0 && before.length < 5; at -= 1)
      if (runs[at].report.program === run.report.program) before.push(runs[at]);
    if (before.length < 3) return { ...run, slower: false };
    const usual = median(before.map((other) => other.value));
    const slower =
      run.value < 0.95 * usual && run.p95 < Math.min(...before.map((other) => other.p5));
    return { ...run, change: run.value / usual - 1, slower };
  });
}

const runsOf = (reports, measure) =>
  judged(
    reports
      .filter((report) => report.own.has(measure))
      .map((report) => ({ report, ...report.own.get(measure) }))
      .sort((a, b) => (a.report.created < b.report.created ? -1 : 1)),
  );

const seriesOf = (report) => dotted(report.deviceName, report.place);

function drawHistory(reports, measure, series) {
  const runs = runsOf(
    reports.filter((report) => seriesOf(report) === series),
    measure,
  );
  const rows = runs
    .map((run, index) => historyRow(run, runs[index - 1]))
    .reverse()
    .slice(0, MOST_PAST);
  const heads = [
    word("created"),
    `${word("median")}, ${runs[0]?.unit}`,
    ...words("range", "change"),
    "",
    ...words("changed", "report"),
  ];
  const drawing = runs.length ? historyPlot(runs.slice(-MOST_RUNS)) : null;
  show(
    "history-chart",
    word("history_title"),
    drawing,
    null,
    table(word("history_title"), heads, rows, [1, 2, 3]),
  );
}

function historyRow({ report, value, p5, p95, change, slower }, before) {
  const sign = change >= 0 ? "+" : "";
  return [
    minute(report.created),
    number(value),
    `${number(p5)} – ${number(p95)}`,
    change === undefined ? "" : `${sign}${(change * 100).toFixed(1)}%`,
    slower ? html("span", { class: "fail" }, `▼ ${word("slower")}`) : "",
    before ? changes(before.report, report) : "",
    report.id,
  ];
}

function changes(before, now) {
  return ["torch", "cuda", "driver", "python", "os", "zone"]
    .filter((name) => before[name] !== now[name])
    .map((name) => `${name} ${before[name] || "–"} → ${now[name] || "–"}`)
    .join("; ");
}

function historyPlot(runs) {
  const area = areaOf("history-chart", 260, 52, 34);
  const x = linear(0, Math.max(1, runs.length - 1), area.left + 12, area.right);
  const each = Math.ceil(runs.length / Math.max(2, Math.floor(area.width / 120)));
  x.ticks = runs.map((_, index) => index).filter((index) => index % each === 0);
  // One that is a thousand times faster than the others is drawn at the top, and lets them be seen.
  const usual = median(runs.map((run) => run.value));
  const high = Math.min(Math.max(...runs.map((run) => run.p95)), 3 * usual);
  const y = linear(0, high * 1.05, area.bottom, area.top);
  const days = { x: (index) => runs[index].report.created.slice(0, 10), y: number };
  const root = axes(area, x, y, word("created"), runs[0].unit, days);
  root.append(
    line(
      "line k0",
      runs.map((run, index) => [x(index), y(run.value)]),
    ),
  );
  runs.forEach((run, index) => root.append(...historyMarks(run, x(index), y)));
  return root;
}

function* historyMarks(run, x, y) {
  yield segment("line faint k0", x, y(run.p5), x, y(run.p95));
  yield named(
    mark(0, x, y(run.value), run.stable ? 1 : 0.3),
    `${minute(run.report.created)}: ${number(run.value)} ${run.unit}`,
  );
  if (run.slower) yield write(x, y(run.value) + 20, "▼", "middle", "slow");
}

function drawLedger(reports) {
  const places = [
    ...groupBy(
      reports.filter((report) => report.phases.length),
      (report) => report.place,
    ),
  ]
    .map(([place, own]) => ({
      place,
      own,
      usd: sum(own.map((report) => report.usd)),
      phases: phasesOf(own),
    }))
    .sort((a, b) => b.own.length - a.own.length)
    .slice(0, MOST_PLACES);
  const heads = words(
    "where",
    "phase",
    "runs",
    "seconds_median",
    "seconds_predicted",
    "seconds_all",
    "usd",
  );
  const numbers = table(word("ledger_title"), heads, places.flatMap(ledgerRows), [2, 3, 4, 5, 6]);
  const key = legend(words(...DATA.phases), square);
  show(
    "ledger-chart",
    word("ledger_title"),
    places.length ? ledgerPlot(places) : null,
    key,
    numbers,
  );
}

// Of each phase that any of the reports has: the seconds, the forecasts, the money.
function phasesOf(reports) {
  const parts = groupBy(
    reports.flatMap((report) => report.phases),
    (part) => part.phase,
  );
  return DATA.phases
    .filter((phase) => parts.has(phase))
    .map((phase) => {
      const own = parts.get(phase),
        seconds = own.map((part) => part.seconds);
      return {
        phase,
        runs: own.length,
        seconds: median(seconds),
        all: sum(seconds),
        forecast: median(own.map((part) => part.forecast)),
        usd: sum(own.map((part) => part.usd)),
      };
    });
}

function ledgerRows({ place, own, usd, phases }) {
  const total = number(sum(phases.map((phase) => phase.all)));
  return [
    ...phases.map(({ phase, runs, seconds, forecast, all, usd: paid }) => [
      place,
      word(phase),
      runs,
      number(seconds),
      number(forecast),
      number(all),
      money(paid),
    ]),
    [place, html("strong", {}, word("sum")), own.length, "", "", total, money(usd)],
  ];
}

function ledgerPlot(places) {
  const step = 46,
    area = areaOf("ledger-chart", places.length * step + 40, 8, 16, 4);
  const longest = places.map(({ phases }) => sum(phases.map((phase) => phase.seconds)));
  const most = Math.min(Math.max(...longest), 20 * median(longest)) || 1;
  const x = linear(0, most, area.left, area.right);
  const root = axes(area, x, null, word("seconds_median"), "");
  places.forEach((place, index) => root.append(...ledgerBar(place, area.top + index * step, x)));
  return root;
}

function* ledgerBar({ place, own, usd, phases }, y, x) {
  yield write(
    x(0),
    y + 14,
    dotted(clip(place, 40), sentence("so_many", { n: own.length }), money(usd)),
    "start",
    "name",
  );
  let reached = 0;
  for (const { phase, seconds } of phases) {
    const width = Math.max(1, x(reached + seconds) - x(reached) - 1);
    const kind = `k${DATA.phases.indexOf(phase)}`;
    yield named(
      svg("rect", { class: kind, stroke: "none", x: x(reached), y: y + 20, width, height: 16 }),
      `${place}, ${word(phase)}: ${number(seconds)} s`,
    );
    reached += seconds;
  }
}
