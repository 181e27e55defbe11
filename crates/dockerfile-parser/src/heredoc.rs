//! Recognising heredocs and reading their bodies.
