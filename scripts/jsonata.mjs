// Evaluates JSONata expressions with the reference implementation (https://docs.jsonata.org), which
// AWS Step Functions follows: https://docs.aws.amazon.com/step-functions/latest/dg/transforming-data.html
// Reads one JSON object a line, {"expression", "bindings"}, and answers each with a line: {"value"},
// {"error"}, or {} where the result is undefined, which Step Functions treats as an error.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const jsonata = createRequire(new URL("../.tools/npm/", import.meta.url))("jsonata");

// Step Functions adds functions to JSONata. This is the one that the state machines use.
function partition(array, size) {
  const parts = [];
  for (let start = 0; start < array.length; start += size) parts.push(array.slice(start, start + size));
  return parts;
}

for await (const line of createInterface({ input: process.stdin })) {
  const { expression, bindings } = JSON.parse(line);
  let answer;
  try {
    const parsed = jsonata(expression);
    parsed.registerFunction("partition", partition);
    answer = { value: await parsed.evaluate(undefined, bindings) };
  } catch (error) {
    answer = { error: `${error.code}: ${error.message}` };
  }
  console.log(JSON.stringify(answer));
}
