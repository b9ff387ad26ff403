// The state machines' definitions, as CloudFormation fills them in, past asl-validator.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const validate = createRequire(new URL("../.tools/npm/", import.meta.url))("asl-validator");
let wrong = 0;
for (const path of process.argv.slice(2)) {
  const text = readFileSync(path, "utf8").replaceAll("${Partition}", "aws").replaceAll(/\$\{\w+\}/g, "1");
  const { isValid, errorsText } = validate(JSON.parse(text));
  if (!isValid) {
    wrong += 1;
    console.error(`${path}:\n${errorsText("\n")}`);
  }
}
process.exit(wrong ? 1 : 0);
