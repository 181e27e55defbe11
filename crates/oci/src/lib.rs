//! The nouns of container images and their exact JSON; no I/O.
