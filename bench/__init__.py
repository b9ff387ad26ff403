"""Benchmarks of the pipeline. Run one with `python -m bench.NAME`; `make help` lists the targets.

- cold_start: cold starts of the function beside a typical thumbnail handler
  - cold_start_worker: runs in a built function and times the parts of a cold start
  - usual_handler/: that typical handler
- function: latency, throughput and cost of the function at Lambda's CPU and memory
- function_formats: the same with one, two and three output formats
- engine: the image code beside sharp, libvips and plain Pillow
  - engine_inputs: the images, and the thumbnails that they should give
  - engine_worker: one engine in a separate process (.mjs: sharp)
  - engine_score: the quality of the thumbnails (SSIMULACRA 2)
  - engine_report: docs/performance/engine.md and its plot
- formats: bytes, CPU and quality of the output formats beside WebP
- format_bytes: bytes and CPU of the output formats by width, for `image-pipeline cost`
- memory: the memory that each kind of image needs, beside the function's estimate
- thumbs: `image-pipeline thumbs` beside the image code alone, vipsthumbnail and sharp-cli, and its
  memory
- page: docs/performance.md, from performance.md.j2 and the results

Shared: photos (the photos to upload), limits (Lambda's CPU and memory by cgroups), record (the
common parts of the results files), results/ (the results files).
"""
