//! Speaks the distribution protocol.
