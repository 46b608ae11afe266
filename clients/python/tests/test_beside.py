# SPDX-License-Identifier: Apache-2.0
import unittest


class Beside(unittest.TestCase):
    def test_other_packages_may_bring_the_same_protos(self):
        """google/rpc/status.proto and health.proto are registered once, by whoever has them."""
        import mmfree  # noqa: F401

        try:
            from google.rpc import error_details_pb2, status_pb2
            from grpc_health.v1 import health_pb2
        except ImportError:
            self.skipTest("googleapis-common-protos and grpcio-health-checking are not installed")
        from mmfree import _messages

        status = status_pb2.Status(code=8, message="full")
        status.details.add().Pack(error_details_pb2.ErrorInfo(reason="QUEUE_FULL"))
        from mmfree.errors import ResourceExhausted, from_status

        error = from_status(_messages.parse("google.rpc.Status", status.SerializeToString()))
        self.assertEqual((type(error), error.reason), (ResourceExhausted, "QUEUE_FULL"))
        self.assertEqual(health_pb2.HealthCheckResponse.FromString(b"\x08\x01").status, 1)
