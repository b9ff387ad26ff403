"""What runs on your machine: the `image-pipeline` command. Never shipped to Lambda."""
