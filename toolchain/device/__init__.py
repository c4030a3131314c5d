"""Run models on a device: this machine or one behind SSH, with one self-contained runner file."""
