"""What is built on the package: the command line, its demonstration, and the measuring of layers.

Nothing outside of this folder imports it, so that none of it is loaded with the package.
"""
