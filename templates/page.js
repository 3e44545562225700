// The page itself: what the reader has chosen, the leader board, and what follows from both.

const ROWS_AT_FIRST = 100,
  REPORTS_IN_LIST = 200;
const BOARD = byId("board");
const ROWS = [...BOARD.tBodies[0].rows, ...(byId("further")?.content.children || [])];
// What each column of the board is sorted by; the fastest, cheapest or first come first or last.
const COLUMNS = [
  (report) => report.deviceName.toLowerCase(),
  (report) => fastest(report, "matmul"),
  (report) => fastest(report, "memory_copy"),
  (report) => fastest(report, "training"),
  (report) => report.price,
  (report) => (report.price ? fastest(report, "training") / report.price : 0),
  (report) => report.place.toLowerCase(),
  (report) => report.outcome,
  (report) => report.usd,
  (report) => report.created,
];
// Of these the small, or what begins with A, is wanted first.
const UPWARDS = new Set([0, 4, 6, 7]);

// All that the reader has chosen; it stands behind the # of the address, so that it outlives a reload.
const chosen = {
  q: "",
  provider: "",
  outcome: "",
  program: "",
  best: REPORTS.length > 20 ? "1" : "0",
  measure: "",
  series: "",
  report: "",
  sort: "1",
  down: "1",
  all: "",
  lang: (navigator.language || "en").toLowerCase().startsWith("zh") ? "zh" : "en",
};

function fastest(report, name) {
  let most = 0;
  for (const row of report.own.values())
    if (row.name === name && row.value > most) most = row.value;
  return most;
}

function start() {
  for (const [key, value] of new URLSearchParams(location.hash.slice(1)))
    if (Object.hasOwn(chosen, key)) chosen[key] = value;
  for (const report of REPORTS)
    report.text = [
      report.deviceName,
      report.cpu,
      report.place,
      report.zone,
      report.torch,
      report.driver,
      report.id,
    ]
      .join(" ")
      .toLowerCase();
  enliven();
  for (const [id, key] of [
    ["search", "q"],
    ["provider", "provider"],
    ["outcome", "outcome"],
    ["program", "program"],
    ["measure", "measure"],
    ["series", "series"],
    ["report", "report"],
  ])
    byId(id).addEventListener("input", (event) => choose(key, event.target.value));
  byId("best").addEventListener("input", (event) =>
    choose("best", event.target.checked ? "1" : "0"),
  );
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("more").addEventListener("click", () => choose("all", "1"));
  byId("language").addEventListener("click", () => choose("lang", language === "zh" ? "en" : "zh"));
  for (const id of ["filters", "language", "charts"]) byId(id).hidden = false;
  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth !== width) draw();
    width = innerWidth;
  });
  addEventListener("beforeprint", () => print(true));
  addEventListener("afterprint", () => print(false));
  draw();
  if (document.documentElement.dataset.live) follow(document.documentElement.dataset.live);
}

// On paper the charts have its width, and nothing can be unfolded.
function print(begins) {
  printing = begins;
  draw();
  for (const part of document.querySelectorAll("details")) part.open = begins;
}

// Headings that sort, and names that open their report.
function enliven() {
  [...BOARD.tHead.rows[0].cells].forEach((cell, column) => {
    const button = html("button", {
      type: "button",
      "data-word": cell.dataset.word,
      click: () => sortBy(column),
    });
    cell.removeAttribute("data-word");
    cell.replaceChildren(button);
  });
  ROWS.forEach((row, index) => {
    const name = row.cells[0];
    name.replaceChildren(
      html(
        "button",
        { type: "button", class: "open", click: () => open(REPORTS[index]) },
        ...name.childNodes,
      ),
    );
  });
}

function sortBy(column) {
  const same = Number(chosen.sort) === column;
  chosen.down = same ? 1 - chosen.down : Number(!UPWARDS.has(column));
  choose("sort", column);
}

function open(report) {
  choose("report", report.id);
  byId("one-title").focus({ preventScroll: true });
  byId("one-title").scrollIntoView({ block: "start" });
}

function choose(key, value) {
  chosen[key] = value;
  try {
    history.replaceState(
      null,
      "",
      `#${new URLSearchParams(Object.entries(chosen).filter(([, one]) => one))}`,
    );
  } catch {
    /* Some viewers of attachments have no address to write to. */
  }
  draw();
}

function draw() {
  speak();
  const visible = filtered();
  board(visible);
  offer("measure", measures(visible), measureLabel);
  const series = [...groupBy(visible, seriesOf)].sort((a, b) => b[1].length - a[1].length);
  offer(
    "series",
    series.map(([name]) => name),
    null,
    series.map(([name, own]) => {
      const slower = runsOf(own, byId("measure").value).filter((run) => run.slower).length;
      return slower ? `${name} ▼ ${slower}` : name;
    }),
  );
  // The newest first, but one with a GPU before all others: it has more to show.
  let byTime = [...visible].sort((a, b) => (a.created < b.created ? 1 : -1));
  if (!chosen.report) chosen.report = (byTime.find((report) => report.gpus) || byTime[0])?.id;
  // Nobody reads a longer list; the names on the board open the others.
  byTime = byTime.filter((report, index) => index < REPORTS_IN_LIST || report.id === chosen.report);
  offer(
    "report",
    byTime.map((report) => report.id),
    null,
    byTime.map(
      (report) =>
        `${minute(report.created)} · ${report.deviceName || word("none")} · ${report.place} · ${report.id}`,
    ),
  );
  byId("charts").hidden = !visible.length;
  if (!visible.length) return;
  drawPrice(visible, byId("measure").value);
  drawSpread(visible, byId("measure").value);
  drawHistory(visible, byId("measure").value, byId("series").value);
  drawLedger(visible);
  drawOne(visible.find((report) => report.id === byId("report").value));
}

// Put the words of the reader's language in their places.
function speak() {
  language = chosen.lang === "zh" ? "zh" : "en";
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  document.title = word("title");
  for (const node of document.querySelectorAll("[data-word]"))
    node.textContent = word(node.dataset.word);
  const other = byId("language");
  other.textContent = language === "zh" ? "English" : "中文";
  other.lang = language === "zh" ? "en" : "zh-CN";
  offerFilter("provider", (report) => report.provider);
  offerFilter("outcome", (report) => report.outcome, word);
  offerFilter(
    "program",
    (report) => report.program,
    (program) => program.slice(0, 8),
  );
  byId("search").value = chosen.q;
  byId("best").checked = chosen.best === "1";
}

function offerFilter(id, of, label = (value) => value) {
  const values = [...new Set(REPORTS.map(of))].sort();
  const labels = [word("all"), ...values.map(label)];
  offer(id, ["", ...values], null, labels);
  byId(id).parentElement.hidden = values.length < 2;
}

// Fill a list to choose from, and keep what is chosen where it is still there.
function offer(id, values, label, labels = values.map(label || ((value) => value))) {
  const list = byId(id);
  list.replaceChildren(...values.map((value, index) => html("option", { value }, labels[index])));
  list.value = values.includes(chosen[id]) ? chosen[id] : (values[0] ?? "");
}

function filtered() {
  const words = chosen.q.toLowerCase().split(/\s+/).filter(Boolean);
  return REPORTS.filter(
    (report) =>
      words.every((one) => report.text.includes(one)) &&
      ["provider", "outcome", "program"].every(
        (key) => !byId(key).value || report[key] === byId(key).value,
      ),
  );
}

// Sort the board, and take out what is filtered away.
function board(visible) {
  const column = Number(Object.hasOwn(COLUMNS, chosen.sort) ? chosen.sort : 1);
  const keyOf = COLUMNS[column],
    down = Number(chosen.down) === 1,
    direction = down ? -1 : 1;
  const keys = new Map(visible.map((report) => [report, keyOf(report)]));
  let sorted = [...visible].sort(
    (a, b) =>
      (keys.get(a) < keys.get(b) ? -1 : keys.get(a) > keys.get(b) ? 1 : 0) * direction ||
      a.index - b.index,
  );
  if (chosen.best === "1")
    sorted = [...groupBy(sorted, (report) => report.deviceName).values()].map((own) => own[0]);
  const most = chosen.all ? sorted.length : ROWS_AT_FIRST;
  BOARD.tBodies[0].replaceChildren(...sorted.slice(0, most).map((report) => ROWS[report.index]));
  [...BOARD.tHead.rows[0].cells].forEach((cell, index) => {
    if (index === column) cell.setAttribute("aria-sort", down ? "descending" : "ascending");
    else cell.removeAttribute("aria-sort");
  });
  byId("more").hidden = sorted.length <= most;
  const programs = new Set(
    visible.filter((report) => report.rows.length).map((report) => report.program),
  ).size;
  byId("found").value =
    sentence("shown", { n: visible.length, all: REPORTS.length }) +
    (programs > 1 ? ` · ${sentence("mixed", { n: programs })}` : "");
}

// The numbers that can be looked at, those that most reports have first.
function measures(reports) {
  const counts = new Map();
  for (const report of reports)
    for (const key of report.own.keys()) counts.set(key, (counts.get(key) || 0) + 1);
  return [...counts].sort((a, b) => b[1] - a[1]).map(([key]) => key);
}

// Where the page is served, ask now and then whether there is something new.
async function follow(version) {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    try {
      const answer = await fetch("version", { cache: "no-store" });
      if (answer.ok && (await answer.text()) !== version) location.reload();
      byId("gone").hidden = true;
    } catch {
      byId("gone").hidden = false;
    }
  }
}

start();
