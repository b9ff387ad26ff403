"""Builds the Lambda function, from a checkout or from an installed wheel."""
