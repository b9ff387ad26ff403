// sharp in a separate process, with the requests and responses of engine_worker.py:
//
//     node engine_worker.mjs per-size|chain SHARP          (the folder with sharp's node_modules)
import { readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [, , method, folder] = process.argv;
const sharp = createRequire(join(folder, "x.js"))("sharp");
sharp.concurrency(1);
sharp.cache(false); // a cached result would make the next round too fast

// As in sharp's documentation, once for each width.
const perSize = (data, widths, quality) =>
  widths.reduce(async (found, width) => {
    const made = await found;
    const image = sharp(data).autoOrient().resize({ width, withoutEnlargement: true });
    return [...made, await image.webp({ quality }).toBuffer()];
  }, []);

// Each width from the pixels of the next larger one.
const chain = async (data, widths, quality) => {
  let image = sharp(data).autoOrient();
  const found = new Map();
  for (const width of widths.toSorted((a, b) => b - a)) {
    const pixels = await image
      .resize({ width, withoutEnlargement: true })
      .raw()
      .toBuffer({ resolveWithObject: true });
    const raw = { width: pixels.info.width, height: pixels.info.height, channels: pixels.info.channels };
    const scaled = () => sharp(pixels.data, { raw });
    found.set(width, await scaled().webp({ quality }).toBuffer());
    image = scaled();
  }
  return widths.map((width) => found.get(width));
};

const make = { "per-size": perSize, chain }[method];
const peakMb = () => {
  try {
    return Number(/VmHWM:\s*(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]) / 1024;
  } catch {
    return process.resourceUsage().maxRSS / 1024;
  }
};

for await (const line of createInterface({ input: process.stdin })) {
  const { path, widths, quality, output } = JSON.parse(line);
  const data = readFileSync(path);
  const startMb = peakMb();
  const wall = performance.now();
  const cpu = process.cpuUsage();
  try {
    const thumbnails = await make(data, widths, quality);
    const { user, system } = process.cpuUsage(cpu);
    const response = {
      cpu_ms: (user + system) / 1000,
      wall_ms: performance.now() - wall,
      encode_ms: null,
      start_mb: startMb,
      peak_mb: peakMb(),
      bytes: thumbnails.map((each) => each.length),
    };
    if (output) thumbnails.forEach((each, at) => writeFileSync(join(output, `${widths[at]}.webp`), each));
    console.log(JSON.stringify(response));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error).split("\n")[0] }));
  }
}
