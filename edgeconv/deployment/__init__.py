"""Put a bundle's model on a device, run it there, and compare: `edgeconv.deployment.run.deploy`."""
