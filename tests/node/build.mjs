// Builds a page for a browser, as an application's own build would.
import { dirname, join } from "node:path";
import { build } from "esbuild";

export async function bundled({ page }) {
    const { outputFiles, warnings } = await build({
        entryPoints: [join(import.meta.dirname, page)],
        nodePaths: [join(dirname(process.argv[2]), "node_modules")],
        bundle: true,
        write: false,
        jsx: "automatic",
        format: "iife",
        define: { "process.env.NODE_ENV": '"production"' },
        logLevel: "silent",
    });
    return { text: outputFiles[0].text, warnings: warnings.map((warning) => warning.text) };
}
