"""The service on a Ray cluster: the same ports, with the model in processes of its own."""
