// Runs asl-validator on the given state machine definitions, with placeholders filled in.
// Exits with 1 if one is invalid.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const validate = createRequire(new URL("../.tools/npm/", import.meta.url))("asl-validator");
let invalid = 0;
for (const path of process.argv.slice(2)) {
  const text = readFileSync(path, "utf8").replaceAll("${Partition}", "aws").replaceAll(/\$\{\w+\}/g, "1");
  const { isValid, errorsText } = validate(JSON.parse(text));
  if (!isValid) {
    invalid += 1;
    console.error(`${path}:\n${errorsText("\n")}`);
  }
}
process.exit(invalid ? 1 : 0);
