"""Runs with a result, as tests of training make them."""

from tests.engine.train.conftest import bench as bench
