"""AWS on this machine: the local stack, the emulator of the Lambda runtime, sample pictures."""
