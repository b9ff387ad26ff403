"""The owner of a site: deploys stacks with the command, uploads, and deletes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from home import Home
from pictures import jpeg

from image_pipeline.local.tools import architecture
from image_pipeline.stack.aws import Aws
from image_pipeline.stack.deployed import Stack

PHOTO: Final = jpeg((640, 480))


@dataclass(frozen=True)
class Site:
    """An account with a bucket of uploads, which exists, and the command as its owner uses it."""

    home: Home
    aws: Aws
    template: Path
    bucket: str

    def deploy(self, name: str, **parameters: str) -> Stack:
        """Deploy a stack on the bucket."""
        given = {
            "InputBucketName": self.bucket,
            "ExistingInputBucket": "true",
            "OutputBucketName": f"{name}-thumbnails",
            "LambdaArchitecture": architecture(),
            **parameters,
        }
        words = [word for each in given.items() for word in ("--parameter", "=".join(each))]
        options = ["--stack", name, "--template", str(self.template), "--no-verify", *words]
        done = self.home.run("deploy", *options, **self.aws.environment)
        assert done.returncode == 0, done.stderr
        return self.stack(name)

    def stack(self, name: str) -> Stack:
        """A deployed stack."""
        return Stack.find(self.aws, name)

    def json(self, *words: str) -> Any:
        """Run a command in the account; its output."""
        return self.home.json(*words, **self.aws.environment)

    def upload(self, *keys: str, body: bytes = PHOTO) -> None:
        """Upload a picture by each key."""
        for key in keys:
            self.aws.s3.put_object(Bucket=self.bucket, Key=key, Body=body)

    def delete(self, *keys: str) -> None:
        """Delete uploads."""
        for key in keys:
            self.aws.s3.delete_object(Bucket=self.bucket, Key=key)
