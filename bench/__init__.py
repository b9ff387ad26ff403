"""Benchmarks of the pipeline. Run one with `python -m bench.NAME`; `make help` lists the targets.

- everything: the parts that can run here, one after another, and the page
- cold_start: cold starts of the function beside a typical thumbnail handler
  - cold_start_worker: runs in a built function and times the parts of a cold start
  - usual_handler/: that typical handler
- function: latency, throughput and cost of the function at Lambda's CPU and memory
- function_formats: the same with one, two and three output formats
- engine: the image code beside sharp, libvips and plain Pillow
  - engine_inputs: the images, and the thumbnails that they should give
  - engine_worker: one engine in a separate process (.mjs: sharp)
  - engine_score: the quality of the thumbnails (SSIMULACRA 2)
  - engine_targets: its targets
  - engine_report: docs/performance/engine.md
- formats: bytes, CPU and quality of the output formats beside WebP
- efforts: efforts of the encoders at equal quality, with their price
- format_bytes: bytes and CPU of the output formats by width, for `image-pipeline cost`
- memory: the memory that each kind of image needs, beside the function's estimate
- thumbs: `image-pipeline thumbs` beside the image code alone, vipsthumbnail and sharp-cli, and its
  memory
- page: docs/performance.md, from performance.md.j2 and the results
  - targets: all targets, and what limits those that are missed
  - plots: the plots (SVG)

Shared: photos (the photos to upload), limits (Lambda's CPU and memory by cgroups), record (the
common parts of the results files), target (one target), results/ (the results files).
"""
