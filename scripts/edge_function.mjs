// Runs a CloudFront Function: `node scripts/edge_function.mjs FILE`. Each line of the standard input is an event as
// JSON, and each line of the output the result. Only what every JavaScript engine has is there, as at the edge.
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import vm from 'node:vm';

const context = vm.createContext({});
vm.runInContext(readFileSync(process.argv[2], 'utf8'), context);
for await (const line of createInterface({ input: process.stdin })) {
  context.line = line;
  console.log(vm.runInContext('JSON.stringify(handler(JSON.parse(line)))', context));
}
