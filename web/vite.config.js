import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { svelte } from "@sveltejs/vite-plugin-svelte";
import { defineConfig } from "vite";

const out = "../src/twofold/serve/static";

// What the build is made from. Kept in step with tests/web/test_web_build.py, which tells a stale build without node.
const sources = ["index.html", "package.json", "package-lock.json", "vite.config.js", "public", "src"];

function files(path) {
  try {
    return readdirSync(path).flatMap((name) => files(join(path, name)));
  } catch {
    return [path]; // a file, not a folder
  }
}

/** Write the hash of the sources beside the build, so that a build that nobody renewed is noticed. */
function stamp() {
  return {
    name: "stamp",
    closeBundle() {
      const hash = createHash("sha256");
      for (const path of sources
        .flatMap(files)
        .map((path) => path.replaceAll("\\", "/"))
        .sort()) {
        hash
          .update(path + "\n")
          .update(readFileSync(path))
          .update("\n");
      }
      writeFileSync(join(out, "built-from.txt"), hash.digest("hex") + "\n");
    },
  };
}

/** Write the licences of the libraries that the build holds, as each asks for. */
function notices() {
  return {
    name: "notices",
    generateBundle(_, bundle) {
      const modules = Object.values(bundle).flatMap((chunk) => Object.keys(chunk.modules ?? {}));
      const packages = new Set(modules.map((id) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(id)?.[1]).filter(Boolean));
      const parts = [...packages].sort().map((name) => {
        const folder = join("node_modules", name);
        const { version, license, homepage, repository } = JSON.parse(
          readFileSync(join(folder, "package.json"), "utf8"),
        );
        const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
        const address = homepage ?? repository?.url ?? "";
        const text = file ? readFileSync(join(folder, file), "utf8").trim() : "";
        return `${name} ${version} (${license}) ${address}\n\n${text}`;
      });
      const head = "The web app of twofold holds these libraries, each under its own licence.";
      this.emitFile({
        type: "asset",
        fileName: "third-party.txt",
        source: [head, ...parts].join(`\n\n${"-".repeat(80)}\n\n`) + "\n",
      });
    },
  };
}

/** Temml's own minified file is a fifth smaller than what comes of minifying its module; it only lacks the export. */
function temml() {
  const name = "temml/dist/temml.min.js";
  return {
    name: "temml",
    transform: (code, id) => (id.endsWith(name) ? { code: `${code}\nexport default temml;`, map: null } : undefined),
  };
}

export default defineConfig({
  plugins: [svelte(), temml(), notices(), stamp()],
  base: "./",
  build: {
    outDir: out,
    emptyOutDir: true,
    target: "es2022",
    cssTarget: ["chrome123", "firefox120", "safari17.5"], // the first to know light-dark()
    modulePreload: { polyfill: false }, // the polyfill would be needed by older browsers only
    assetsInlineLimit: 0, // the content security policy allows no data: addresses
  },
  // `make web-dev`: the app from its sources, the answers from `twofold serve`.
  server: {
    proxy: { "/v1": "http://127.0.0.1:8080", "/twofold": "http://127.0.0.1:8080", "/health": "http://127.0.0.1:8080" },
  },
});
