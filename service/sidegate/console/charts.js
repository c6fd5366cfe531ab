// Charts by uPlot, each with the same numbers as a table for whoever does not see it.

import uPlot from "./vendor/uPlot.esm.js";
import { element, fill, say, styled } from "./element.js";
import { table } from "./tables.js";

const TABLE_ROWS = 60;
const LEAST_SECONDS = 60;

/** A colour of the theme as the canvas wants it. */
function colour(name) {
    const probe = styled(element("span", { hidden: true }), { color: `var(${name})` });
    document.body.append(probe);
    const found = getComputedStyle(probe).color;
    probe.remove();
    return found;
}

function axis(more) {
    const line = { stroke: colour("--line"), width: 1 };
    return { stroke: colour("--soft-ink"), grid: line, ticks: { ...line, size: 4 }, font: "11px system-ui, sans-serif", ...more };
}

/** What all charts have: a title, a legend with values, a drawing that fits its width, a table. */
class Chart {
    #plot = null;
    #given = null;

    /** `series`: {name, colour: "--series-1"}; `say`: how a value is told; `label`: how a place on the x axis is. */
    constructor(title, series, { say: told, label, tall = false }) {
        this.title = title;
        this.series = series;
        this.told = told;
        this.label = label;
        this.height = tall ? 240 : 130;
        this.values = series.map(() => element("span"));
        this.place = element("span", { class: "hint" });
        const keys = series.map((each, at) => element("li", {}, [
            styled(element("span", { class: "key" }), { "--colour": `var(${each.colour})` }), `${each.name} `, this.values[at],
        ]));
        this.drawn = element("div", { class: tall ? "plot tall" : "plot", "aria-hidden": "true" });
        this.table = element("div");
        this.details = element("details", { ontoggle: () => this.#tell() }, [element("summary", {}, "As a table"), this.table]);
        this.node = element("figure", { class: "chart sheet" }, [
            element("figcaption", {}, [element("span", {}, title), element("ul", { class: "legend" }, [keys, element("li", {}, this.place)])]),
            this.drawn,
            this.details,
        ]);
        new ResizeObserver(() => this.#fit()).observe(this.drawn);
        this.scheme = matchMedia("(prefers-color-scheme: dark)");
        this.redraw = () => this.#again();
        this.scheme.addEventListener("change", this.redraw);
        document.addEventListener("theme", this.redraw);
    }

    /** `data`: the places, then the values of each series, null where there is none. */
    show(data) {
        this.#given = data;
        if (this.#plot === null) this.#make();
        else this.#plot.setData(this.shaped(data));
        this.#read(null);
        if (this.details.open) this.#tell();
    }

    /** Nobody looks at it any more. */
    close() {
        this.scheme.removeEventListener("change", this.redraw);
        document.removeEventListener("theme", this.redraw);
        this.#plot?.destroy();
        this.#plot = null;
    }

    #again() {
        if (this.#plot === null) return;
        this.#plot.destroy();
        this.#make();
    }

    #make() {
        const width = this.drawn.clientWidth;
        if (!width || this.#given === null) return;
        this.#plot = new uPlot(
            {
                width,
                height: this.height,
                legend: { show: false },
                padding: [8, 8, 0, 0],
                cursor: { drag: { x: false, y: false }, points: { size: 6 } },
                hooks: { setCursor: [(plot) => this.#read(plot.cursor.idx)] },
                ...this.options(axis, colour),
            },
            this.shaped(this.#given),
            this.drawn,
        );
    }

    #fit() {
        const width = this.drawn.clientWidth;
        if (this.#plot === null) this.#make();
        else if (width && width !== this.#plot.width) this.#plot.setSize({ width, height: this.height });
    }

    /** The values under the pointer; else the last ones. */
    #read(at) {
        const [places, ...rows] = this.#given;
        const pointed = at !== null && at !== undefined;
        const index = pointed ? at : places.length - 1;
        this.values.forEach((node, each) => say(node, this.#said(rows[each][index])));
        say(this.place, pointed && places.length ? this.label(places[index]) : "");
    }

    #said(value) {
        return value === null || value === undefined ? "–" : this.told(value);
    }

    #tell() {
        // Who reads it by the keyboard is not to lose the place: it waits.
        if (!this.details.open || this.#given === null || this.table.contains(document.activeElement)) return;
        const [places, ...rows] = this.#given;
        const shown = places.map((place, at) => ({ place, at })).slice(-TABLE_ROWS).reverse();
        const columns = this.series.map((each, series) => ({
            title: each.name, number: true, cell: ({ at }) => this.#said(rows[series][at]),
        }));
        fill(this.table, table(this.title, [{ title: "", cell: ({ place }) => this.label(place) }, ...columns], shown));
    }
}

/** Lines over time; places are seconds since 1970. */
export class Lines extends Chart {
    constructor(title, series, options) {
        super(title, series, { label: (at) => new Date(at * 1000).toLocaleTimeString(), ...options });
    }

    shaped(data) {
        return data;
    }

    options(axis, colour) {
        const say = (_, values) => values.map((value) => (value === null ? "" : this.told(value)));
        return {
            scales: {
                x: { range: (_, first, last) => [Math.min(first ?? 0, (last ?? 0) - LEAST_SECONDS), last ?? 0] },
                y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] },
            },
            axes: [axis({ space: 70, size: 26 }), axis({ values: say, size: 58, space: 32 })],
            series: [
                {},
                ...this.series.map((each) => ({ label: each.name, stroke: colour(each.colour), width: 1.6, points: { show: false } })),
            ],
        };
    }
}

/** Bars one upon the other; places are names. */
export class Bars extends Chart {
    constructor(title, series, options) {
        super(title, series, { label: (name) => name, tall: true, ...options });
    }

    /** Sums from the bottom up, drawn from the highest down, so that each covers those above it. */
    shaped([places, ...rows]) {
        this.places = places;
        let below = places.map(() => 0);
        const sums = rows.map((row) => (below = below.map((sum, at) => sum + (row[at] ?? 0))));
        return [places.map((_, at) => at), ...sums.reverse()];
    }

    options(axis, colour) {
        const bars = uPlot.paths.bars({ size: [0.7, 56] });
        const name = (_, values) => values.map((at) => (Number.isInteger(at) ? (this.places[at] ?? "") : ""));
        const say = (_, values) => values.map((value) => this.told(value));
        return {
            scales: {
                x: { time: false, range: (_, low, high) => [-0.6, Math.max(high ?? 0, this.places.length - 1) + 0.6] },
                y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] },
            },
            axes: [axis({ values: name, space: 84, size: 28, incrs: [1, 2, 5, 10, 20, 50, 100, 200] }), axis({ values: say, size: 66 })],
            cursor: { drag: { x: false, y: false }, points: { show: false }, y: false },
            series: [
                {},
                ...[...this.series].reverse().map((each) => ({
                    label: each.name, fill: colour(each.colour), stroke: colour(each.colour), width: 0, paths: bars, points: { show: false },
                })),
            ],
        };
    }
}

/** A bar in a table; decoration of the number beside it. */
export function bar(shares, more = "") {
    return element("span", { class: `bar ${more}`, "aria-hidden": "true" }, shares.map((share) => styled(element("span"), { "--share": share })));
}
