// A reader of server-sent events that knows nothing of models.
import { EventSource } from "eventsource";

export function read({ url, body, names, last }) {
    return new Promise((resolve, reject) => {
        const seen = [];
        const asked = { method: "POST", body: JSON.stringify(body) };
        const headers = { "content-type": "application/json" };
        const source = new EventSource(url, {
            fetch: (to, init) => fetch(to, { ...init, ...asked, headers: { ...init.headers, ...headers } }),
        });
        const see = ({ type, data }) => {
            seen.push([type, data]);
            if (data !== last && type !== last) return;
            source.close();
            resolve(seen);
        };
        source.onmessage = see;
        for (const name of names) source.addEventListener(name, see);
        source.onerror = (error) => {
            source.close();
            reject(new Error(error.message));
        };
    });
}
