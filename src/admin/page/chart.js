// A small chart of the last five minutes, with the figure of now above it.

const CHART_MS = 300_000;

/** After so long without a sample the line breaks off. */
const GAP_MS = 3_000;

const [WIDTH, HEIGHT] = [300, 60];

class Chart {
  #samples = [];
  #figure = make("b", "", "–");
  #path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  #most = make("span", "quiet");
  #format;

  constructor(section, format) {
    this.#format = format;
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("aria-hidden", "true");
    svg.append(this.#path);
    const axis = make("p", "axis quiet", make("span", "", "5 min ago"), this.#most, make("span", "", "now"));
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
    this.#path.setAttribute("d", this.#line(at, Math.max(most, 1e-9)));
  }

  #line(now, most) {
    let before = -Infinity;
    return this.#samples
      .filter(({ value }) => value !== undefined)
      .map(({ at, value }) => {
        const move = at - before > GAP_MS ? "M" : "L";
        before = at;
        const x = WIDTH * (1 - (now - at) / CHART_MS);
        const y = HEIGHT - 2 - (HEIGHT - 6) * (value / most);
        return `${move}${x.toFixed(1)} ${y.toFixed(1)}`;
      })
      .join("");
  }
}
