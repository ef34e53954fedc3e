"""What the tests of examples share: the servers that the tests of retrysafe start."""

from tests.services.fixtures import dynamodb, own_dynamodb

__all__ = ["dynamodb", "own_dynamodb"]
