// Elements, made from data. Text is text: nothing here, or elsewhere in the console, parses markup.

/** `on…` attributes are listeners; null and false leave an attribute out; children may be nested, null, or plain values. */
export function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
        if (value === null || value === undefined || value === false) continue;
        if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
        else made.setAttribute(name, value === true ? "" : String(value));
    }
    made.append(...nodes(children));
    return made;
}

/** Put these in the place of what is there. */
export function fill(parent, ...children) {
    parent.replaceChildren(...nodes(children));
    return parent;
}

/** Other text, where it is other: what does not change is not announced again. */
export function say(node, text) {
    if (node.textContent !== text) node.textContent = text;
}

/** A custom property of an element's style. */
export function styled(node, properties) {
    for (const [name, value] of Object.entries(properties)) node.style.setProperty(name, String(value));
    return node;
}

let named = 0;

/** A control with its label. */
export function field(label, control, more = {}) {
    control.id ||= `field-${(named += 1)}`;
    return element("div", { class: more.wide ? "field wide" : "field" }, [
        element("label", { for: control.id }, label),
        control,
        more.hint ? element("span", { class: "hint" }, more.hint) : null,
    ]);
}

/** A select of pairs of value and text. */
export function choice(options, value, attributes = {}) {
    const made = element("select", attributes, options.map(([each, text]) => element("option", { value: each }, text)));
    if (value !== undefined && value !== null) made.value = value;
    return made;
}

function nodes(children) {
    return children
        .flat(Infinity)
        .filter((child) => child !== null && child !== undefined && child !== false)
        .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}
