"""The web console of a stack, on loopback: uploads, images, failed uploads and metrics."""
