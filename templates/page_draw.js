// Nodes of HTML and SVG, scales, axes, tables. All text goes in as text, never as markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

const html = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

// A table; cells of the columns in `numbers` are flush right.
function table(caption, headers, rows, numbers = []) {
  const kind = (column) => (numbers.includes(column) ? "number" : null);
  const head = headers.map((text, column) =>
    html("th", { scope: "col", class: kind(column) }, text),
  );
  const body = rows.map((row) =>
    html(
      "tr",
      {},
      ...row.map((cell, column) =>
        column === 0
          ? html("th", { scope: "row" }, cell)
          : html("td", { class: kind(column) }, cell),
      ),
    ),
  );
  return html(
    "div",
    { class: "scroll", role: "region", "aria-label": caption, tabindex: 0 },
    html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body)),
  );
}

// Show a chart and, below it, its numbers; what has nothing to draw says so.
function show(id, name, drawing, legend, numbers, otherwise = "nothing") {
  const figure = byId(id);
  const wasOpen = figure.querySelector("details")?.open;
  if (!drawing) {
    figure.replaceChildren(html("p", { class: "hint" }, word(otherwise)));
    return;
  }
  drawing.setAttribute("role", "img");
  drawing.setAttribute("aria-label", `${name}. ${word("table_below")}`);
  const details = html("details", {}, html("summary", {}, word("table")), numbers);
  details.open = Boolean(wasOpen);
  figure.replaceChildren(drawing, legend || "", details);
}

// Marks that differ in shape too, for who does not see the colours apart.
const SHAPES = [
  "M-4,0A4,4 0 1,0 4,0A4,4 0 1,0 -4,0Z",
  "M-4,-4H4V4H-4Z",
  "M0,-5L5,4H-5Z",
  "M0,-5.5L5.5,0L0,5.5L-5.5,0Z",
  "M0,5L5,-4H-5Z",
  "M-5,-1.7H-1.7V-5H1.7V-1.7H5V1.7H1.7V5H-1.7V1.7H-5Z",
];

const mark = (number, x, y, opacity = 1) =>
  svg("path", {
    d: SHAPES[number % SHAPES.length],
    transform: `translate(${x.toFixed(1)},${y.toFixed(1)})`,
    class: `k${number % 8}`,
    "fill-opacity": opacity,
  });

function legend(names, key = (index) => mark(index, 0, 0)) {
  return html(
    "ul",
    { class: "legend" },
    ...names.map((name, index) =>
      html(
        "li",
        {},
        svg("svg", { viewBox: "-6 -6 12 12", "aria-hidden": "true" }, key(index)),
        name,
      ),
    ),
  );
}

const square = (index) =>
  svg("rect", { class: `k${index % 8}`, stroke: "none", x: -5, y: -5, width: 10, height: 10 });

// Scales. A value beyond the ends is drawn at the end, so that no single one moves all the others.
function linear(low, high, from, to) {
  const scale = (value) =>
    from + ((Math.min(high, Math.max(low, value)) - low) / (high - low || 1)) * (to - from);
  const step = niceStep((high - low) / 5);
  scale.ticks = Array.from(
    { length: 12 },
    (_, index) => (Math.ceil(low / step) + index) * step,
  ).filter((tick) => tick <= high);
  return scale;
}

function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
}

// Eight powers of ten around the median at most.
function logarithmic(values, from, to) {
  const good = values.filter((value) => value > 0);
  const middle = Math.log10(median(good));
  let low = Math.max(Math.log10(Math.min(...good)), middle - 4) - 0.08;
  let high = Math.min(Math.log10(Math.max(...good)), middle + 4) + 0.08;
  if (high - low < 0.5) [low, high] = [(low + high) / 2 - 0.25, (low + high) / 2 + 0.25];
  const scale = (value) =>
    from + ((Math.min(high, Math.max(low, Math.log10(value))) - low) / (high - low)) * (to - from);
  const factors = high - low < 1.5 ? [1, 1.5, 2, 3, 5, 7] : high - low < 3.5 ? [1, 3] : [1];
  Object.assign(scale, { low: 10 ** low, high: 10 ** high, ticks: [] });
  for (let power = Math.floor(low); power <= high; power += 1)
    for (const factor of factors) {
      const at = power + Math.log10(factor);
      if (at >= low && at <= high) scale.ticks.push(factor * 10 ** power);
    }
  return scale;
}

const ON_PAPER = 640;
let printing = false;

// As wide as its place, so that texts have the size of all others.
function widthOf(id) {
  const room = printing ? ON_PAPER : byId(id).clientWidth || ON_PAPER;
  return Math.min(1100, Math.max(280, room));
}

// A drawing area. `x` and `y` are scales over its width and its height; either may be none.
function axes(area, x, y, xTitle, yTitle, format = { x: number, y: number }) {
  const root = svg("svg", { viewBox: `0 0 ${area.width} ${area.height}` });
  for (const tick of y ? y.ticks : [])
    root.append(
      segment("grid", area.left, y(tick), area.right, y(tick)),
      write(area.left - 6, y(tick) + 4, format.y(tick), "end"),
    );
  let reached = -Infinity;
  for (const tick of x ? x.ticks : []) {
    root.append(segment("grid", x(tick), area.top, x(tick), area.bottom));
    const text = format.x(tick);
    if (x(tick) - text.length * 3.5 < reached + 6) continue;
    reached = x(tick) + text.length * 3.5;
    root.append(write(x(tick), area.bottom + 16, text, "middle"));
  }
  root.append(segment("axis", area.left, area.bottom, area.right, area.bottom));
  root.append(write(0, 12, yTitle, "start", "name"));
  root.append(write(area.right, area.bottom + 32, xTitle, "end", "name"));
  return root;
}

// Where a figure's marks go: the edges are in the picture's own units.
function areaOf(id, height, left = 52, right = 16, top = 24) {
  const width = widthOf(id);
  return { width, height, left, top, right: width - right, bottom: height - 36 };
}

const write = (x, y, text, anchor = "start", kind = null) =>
  svg("text", { x, y, "text-anchor": anchor, class: kind }, text);
const segment = (kind, x1, y1, x2, y2) => svg("line", { class: kind, x1, y1, x2, y2 });
const line = (kind, points) =>
  svg("polyline", {
    class: kind,
    points: points.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" "),
  });

// A mark that says its name when it is pointed at.
function named(node, text) {
  node.append(svg("title", {}, text));
  return node;
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
