// Runs what a test asks of a vendor's client: a line of JSON in, a line of JSON out. One process serves many tests.
import { registerHooks } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const packages = pathToFileURL(process.argv[2]).href;
const here = new URL(".", import.meta.url).href;
const bare = /^(?!\.|\/|node:|file:)/;

// The packages are installed elsewhere, which Node has no setting for.
registerHooks({
    resolve(specifier, context, next) {
        const ours = context.parentURL?.startsWith(here) && bare.test(specifier);
        return next(specifier, ours ? { ...context, parentURL: packages } : context);
    },
});

// What a client has to say is not for the one who reads answers.
console.log = console.info = console.debug = console.error;

let unhandled = [];
process.on("unhandledRejection", (error) => unhandled.push(described(error)));

function described(error) {
    if (!(error instanceof Error)) return { class: typeof error, message: String(error) };
    const { message, status, statusCode, code, type, param, requestID, isRetryable, name } = error;
    const headers = error.headers ?? error.responseHeaders;
    return {
        class: error.constructor.name,
        name,
        message,
        status: status ?? statusCode,
        code,
        type,
        param,
        requestID,
        isRetryable,
        body: error.responseBody ?? error.error,
        headers: headers instanceof Headers ? Object.fromEntries(headers) : headers,
        cause: error.cause && described(error.cause),
        last: error.lastError && described(error.lastError),
    };
}

globalThis.described = described;

async function answered({ module, name, given }) {
    unhandled = [];
    try {
        const found = await import(`./${module}.mjs`);
        const value = await found[name](given);
        await new Promise(setImmediate);
        return unhandled.length ? { error: { class: "Unhandled", message: JSON.stringify(unhandled) } } : { value };
    } catch (error) {
        return { error: described(error) };
    }
}

for await (const line of createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answered(JSON.parse(line))) + "\n");
}
process.exit(0);
