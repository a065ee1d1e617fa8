"""What lies in deploy/ and beside it: container files, and manifests of a cluster."""
