"""Isolated Python environments for tools that cannot live beside today's packages.

Each is one entry of `specs.ENVIRONMENTS`: a lock file in ``toolchain/locks/``, the Pythons that it
suits, and a self-test. `manage` installs and removes them; `process` runs a script of ``scripts/``
in one, exchanging files only.
"""
