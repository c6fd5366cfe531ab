// Keys that were issued: listed, made, revoked.

import { ask, query } from "../api.js";
import { element, field, fill } from "../element.js";
import { table } from "../tables.js";
import { shortly, tag, when } from "../words.js";

export async function show({ page, signal }) {
    const problem = element("p", { class: "problem", role: "alert", hidden: true });
    const report = (why) => {
        problem.hidden = !why;
        problem.textContent = why;
    };
    const list = element("div");
    const more = element("button", { type: "button", hidden: true }, "More");
    const told = element("div", { role: "status" });
    let rows = [];
    let after = null;
    const load = async (anew) => {
        const answer = await ask(`/admin/keys${query({ limit: 100, after: anew ? null : after })}`, { signal });
        rows = anew ? answer.keys : [...rows, ...answer.keys];
        after = answer.next;
        more.hidden = after === null;
        const columns = [...COLUMNS, { title: "Revoke", unseen: true, number: true, cell: (row) => revoke(row, report, () => load(true)) }];
        fill(list, rows.length ? table("Keys", columns, rows) : element("p", { class: "empty" }, "No key was issued yet."));
    };
    more.addEventListener("click", () => load(false).catch((error) => report(error.message)));
    const form = issue(told, report, () => load(true));
    fill(page,
        element("section", { class: "sheet", "aria-labelledby": "issue" }, [element("h2", { id: "issue" }, "Issue a key"), form, told]),
        element("section", { class: "sheet", "aria-labelledby": "issued" }, [element("h2", { id: "issued" }, "Issued keys"), problem, list, more]),
    );
    await load(true);
}

function issue(told, report, done) {
    const input = (name, more = {}) => element("input", { name, autocomplete: "off", spellcheck: "false", ...more });
    const form = element("form", { class: "fields" }, [
        field("Name: the caller", input("name", { required: true })),
        field("Owner", input("owner")),
        field("Team", input("team")),
        field("Expires in", input("expires", { placeholder: "90d" })),
        field("Models, by commas", input("models", { placeholder: "all it may use" })),
        field("Budget in USD a month", input("budget", { inputmode: "decimal", pattern: "[0-9]+([.][0-9]+)?" })),
        element("div", {}, element("button", { type: "submit", class: "first" }, "Issue")),
    ]);
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        report("");
        try {
            const made = await ask("/admin/keys", { method: "POST", json: wanted(new FormData(form)) });
            form.reset();
            fill(told, secret(made));
            await done();
        } catch (error) {
            fill(told, element("p", { class: "problem" }, error.message));
        }
    });
    return form;
}

function wanted(data) {
    const text = (name) => data.get(name).trim();
    const models = text("models").split(",").map((each) => each.trim()).filter(Boolean);
    const allowance = {
        ...(models.length ? { models } : {}),
        ...(text("budget") ? { budgets: [{ amount_usd: text("budget"), period: "month" }] } : {}),
    };
    const rest = ["owner", "team", "expires"].filter(text).map((name) => [name, text(name)]);
    return { name: text("name"), ...Object.fromEntries(rest), ...(Object.keys(allowance).length ? { allowance } : {}) };
}

/** Shown this once. */
function secret(made) {
    const dismiss = element("button", { type: "button" }, "I have kept it");
    const shown = element("div", { class: "done" }, [
        element("p", {}, ["The key of ", element("strong", {}, made.key.name), ". It is shown this once:"]),
        element("p", { class: "row" }, [element("code", {}, made.secret), dismiss]),
        made.warnings.map((text) => element("p", {}, text)),
    ]);
    dismiss.addEventListener("click", () => shown.remove());
    return shown;
}

function revoke(row, report, done) {
    if (row.state === "revoked") return "";
    const button = element("button", { type: "button", class: "stop", "aria-label": `Revoke ${row.id} of ${row.name}` }, "Revoke");
    button.addEventListener("click", async () => {
        if (!confirm(`Revoke ${row.id} of ${row.name} for good?`)) return;
        try {
            await ask(`/admin/keys/${encodeURIComponent(row.id)}`, { method: "DELETE" });
            await done();
        } catch (error) {
            report(error.message);
        }
    });
    return button;
}

const COLUMNS = [
    { title: "Key", short: true, cell: (row) => element("span", { class: "mono" }, row.id) },
    { title: "Name", cell: (row) => element("a", { href: `#/calls?key_id=${encodeURIComponent(row.id)}` }, shortly(row.name)) },
    { title: "State", cell: (row) => tag(row.state) },
    { title: "Owner", cell: (row) => row.owner ?? "–" },
    { title: "Team", cell: (row) => row.team ?? "–" },
    { title: "May use", cell: (row) => row.allowance?.models?.join(", ") ?? "all models" },
    { title: "Budgets", cell: (row) => row.allowance?.budgets?.map((each) => `${each.amount_usd} USD a ${each.period}`).join(", ") || "–" },
    { title: "Issued", short: true, cell: (row) => when(row.created_at) },
    { title: "Expires", short: true, cell: (row) => when(row.expires_at) ?? "never" },
];
