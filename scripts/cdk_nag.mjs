// Checks templates with filled-in parameters by the AwsSolutions rules of cdk-nag
// (https://github.com/cdklabs/cdk-nag). Suppressions are in the Metadata of resources in the template.
// Exits with 1 if a rule is broken.
import { mkdtempSync, readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";

const require = createRequire(new URL("../.tools/npm/", import.meta.url));
const { App, Aspects, Stack } = require("aws-cdk-lib");
const { CfnInclude } = require("aws-cdk-lib/cloudformation-include");
const { AwsSolutionsChecks } = require("cdk-nag");

// SAM creates this role, with the policy that AWS manages for CodeDeploy.
const SAM_ROLE = /CodeDeployServiceRole/;

const outdir = mkdtempSync(join(tmpdir(), "nag-"));
const context = { "@aws-cdk/core:validateAgainstDefaultRules": false };
const app = new App({ outdir, context });
for (const path of process.argv.slice(2)) {
  new CfnInclude(new Stack(app, basename(path, ".json")), "template", { templateFile: path });
}
Aspects.of(app).add(new AwsSolutionsChecks());
console.warn = console.error = () => {}; // hides warnings about the filled-in attributes
app.synth();

let rows = 0;
const broken = [];
for (const file of readdirSync(outdir).filter((name) => name.endsWith("NagReport.csv"))) {
  for (const line of readFileSync(join(outdir, file), "utf8").split("\n").slice(1).filter(Boolean)) {
    rows += 1;
    if (line.includes('"Non-Compliant"') && !SAM_ROLE.test(line)) broken.push(line);
  }
}
if (broken.length) console.log(broken.join("\n"));
console.log(`cdk-nag: ${rows} checks, ${broken.length} findings`);
process.exit(broken.length || !rows ? 1 : 0);
