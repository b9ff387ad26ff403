"""A bucket with conditional writes, through two clients behind one interface (ADR 2)."""

from thumbnailer.storage.bucket import MAX_LISTED, Bucket, Headers, Listing, Object, State, Stored
from thumbnailer.storage.obstore_bucket import use_one_ca_bundle
from thumbnailer.storage.s3_bucket import S3Bucket, prepare

__all__ = [
    "MAX_LISTED",
    "Bucket",
    "Headers",
    "Listing",
    "Object",
    "S3Bucket",
    "State",
    "Stored",
    "prepare",
    "use_one_ca_bundle",
]
