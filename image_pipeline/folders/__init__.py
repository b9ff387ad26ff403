"""Thumbnails of folders on this machine, for `image-pipeline thumbs`: no AWS, and no boto3."""
