"""The commands, one a module; `image_pipeline.cli.app` imports the one that is needed."""
