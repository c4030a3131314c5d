"""Put a bundle's model on a device, run it there, and compare: `edgeconv.deploy.run.deploy`."""
