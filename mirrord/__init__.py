"""mirrord keeps copies of images, charts and repositories close to the people who use them."""

__version__ = "0.1.0"
