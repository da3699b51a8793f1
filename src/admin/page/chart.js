// A small chart of the last five minutes, with the figure of now above it.

const CHART_MS = 300_000;

/** After so long without a sample the line breaks off. */
const GAP_MS = 3_000;

const [WIDTH, HEIGHT] = [300, 60];

class Chart {
  #samples = [];
  #figure = make("b", "", "–");
  #path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  #area = document.createElementNS("http://www.w3.org/2000/svg", "path");
  #most = make("span", "quiet");
  #format;

  constructor(section, format) {
    this.#format = format;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    this.#area.setAttribute("class", "area");
    svg.append(this.#area, this.#path);
    const axis = make("p", "axis quiet", make("span", "", "−5 min"), this.#most, make("span", "", "now"));
    section.append(make("p", "figure", this.#figure), svg, axis);
  }

  /** @param value undefined where it is not known */
  add(at, value) {
    this.#samples.push({ at, value });
    while (this.#samples[0].at < at - CHART_MS) this.#samples.shift();
    const values = this.#samples.map((sample) => sample.value).filter((each) => each !== undefined);
    const most = Math.max(0, ...values);
    setText(this.#figure, value === undefined ? undefined : this.#format(value));
    setText(this.#most, values.length === 0 ? "" : `most ${this.#format(most)}`);
    const lines = this.#lines(at, Math.max(most, 1e-9));
    const under = (points) =>
      `M${points[0][0]} ${HEIGHT} L${points.join(" L")} L${points.at(-1)[0]} ${HEIGHT}Z`;
    this.#path.setAttribute("d", lines.map((points) => `M${points.join(" L")}`).join(""));
    this.#area.setAttribute("d", lines.map(under).join(""));
  }

  /** Points of a line each, for the times in between which there is no gap. */
  #lines(now, most) {
    const lines = [];
    let before = -Infinity;
    for (const { at, value } of this.#samples) {
      if (value === undefined) continue;
      if (at - before > GAP_MS) lines.push([]);
      before = at;
      const x = WIDTH * (1 - (now - at) / CHART_MS);
      const y = HEIGHT - 1 - (HEIGHT - 5) * (value / most);
      lines.at(-1).push([x.toFixed(1), y.toFixed(1)]);
    }
    return lines;
  }
}
