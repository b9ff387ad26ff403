"""`python -m image_pipeline.cli` is `image-pipeline`."""

from image_pipeline.cli import main

if __name__ == "__main__":
    main()
